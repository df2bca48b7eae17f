#!/bin/sh
# Prints the path of a Chromium: an installed one, or Debian's, unpacked into FOLDER without root.
#   fetch-chromium.sh FOLDER
set -eu
folder=$1

for name in chromium chromium-browser google-chrome; do
  if command -v "$name"; then exit 0; fi
done

if [ ! -x "$folder/chromium" ]; then
  mkdir -p "$folder/debs" "$folder/root"
  # What an installation would bring: Chromium and the libraries that this machine lacks.
  packages=$(apt-get install --simulate --no-install-recommends chromium fonts-dejavu-core | awk '/^Inst/ { print $2 }')
  (cd "$folder/debs" && apt-get download --quiet --quiet $packages >&2)
  for package in "$folder"/debs/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
  rm -rf "$folder/debs"
  cat > "$folder/draft" <<END
#!/bin/sh
root="$folder/root"
for library in "\$root"/usr/lib/*-linux-gnu "\$root"/usr/lib/*-linux-gnu/* "\$root"/lib/*-linux-gnu; do
  [ -d "\$library" ] && LD_LIBRARY_PATH="\${LD_LIBRARY_PATH:+\$LD_LIBRARY_PATH:}\$library"
done
export LD_LIBRARY_PATH XDG_DATA_DIRS="\$root/usr/share:/usr/share"
exec "\$root/usr/lib/chromium/chromium" "\$@"
END
  chmod +x "$folder/draft"
  mv "$folder/draft" "$folder/chromium"
fi
echo "$folder/chromium"

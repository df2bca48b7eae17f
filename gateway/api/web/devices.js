// The choice of microphone and loudspeaker.

const KINDS = { audioinput: "Microphone", audiooutput: "Loudspeaker" };

/**
 * Fill the two lists with the devices of this machine. The browser tells their names once it may use the microphone. A
 * list that the browser cannot offer is hidden with its label.
 */
export async function listDevices(microphones, speakers) {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  fill(microphones, devices, "audioinput");
  fill(speakers, "setSinkId" in AudioContext.prototype ? devices : [], "audiooutput");
}

function fill(list, devices, kind) {
  const found = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
  const chosen = list.value;
  const options = found.map(({ label, deviceId }, i) => new Option(label || `${KINDS[kind]} ${i + 1}`, deviceId));
  list.replaceChildren(new Option("The browser's default", ""), ...options);
  if (chosen && !found.some((device) => device.deviceId === chosen)) list.append(new Option("Not connected", chosen));
  list.value = chosen;
  list.closest(".field").hidden = found.length === 0;
}

"""The page's sound, computed in the browser by the page's own modules."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
async def test_microphone_sound_is_resampled_exactly_in_any_pieces(page: Page, rate_hz: int) -> None:
    """A 1 kHz tone keeps its frequency, and pieces of 128 samples give the same as the whole."""
    result = await page.evaluate(
        """async (rate) => {
            const { Resampler } = await import("./resampler.js");
            const tone = Float32Array.from({ length: rate }, (_, i) => 0.5 * Math.sin((2 * Math.PI * 1000 * i) / rate));
            const whole = new Resampler(rate, 24000).push(tone);
            const pieces = [];
            const resampler = new Resampler(rate, 24000);
            for (let i = 0; i < tone.length; i += 128) pieces.push(...resampler.push(tone.slice(i, i + 128)));
            const expected = (i) => 0.5 * Math.sin((2 * Math.PI * 1000 * i) / 24000);
            let worst = 0;
            for (let i = 200; i < whole.length; i += 1) worst = Math.max(worst, Math.abs(whole[i] - expected(i)));
            const same = pieces.length === whole.length && pieces.every((sample, i) => sample === whole[i]);
            return { samples: whole.length, worst, same };
        }""",
        rate_hz,
    )
    assert result["same"]
    assert 23_900 < result["samples"] <= 24_000
    assert result["worst"] < 1e-3


async def test_what_a_lower_rate_cannot_hold_is_filtered_out(page: Page) -> None:
    loudest = await page.evaluate(
        """async () => {
            const { Resampler } = await import("./resampler.js");
            const tone = Float32Array.from({ length: 48000 }, (_, i) => Math.sin((2 * Math.PI * 15000 * i) / 48000));
            return Math.max(...new Resampler(48000, 24000).push(tone).slice(200).map(Math.abs));
        }"""
    )
    assert loudest < 1e-2


async def test_underruns_are_counted_once_and_sound_after_them_is_whole(page: Page) -> None:
    result = await page.evaluate(
        """async () => {
            const { Playback } = await import("./playback.js");
            const playback = new Playback();
            const heard = [];
            const run = (blocks) => {
                for (let i = 0; i < blocks; i += 1) {
                    const output = new Float32Array(128);
                    playback.fill(output);
                    heard.push(...output);
                }
            };
            const frame = (value) => new Float32Array(1920).fill(value);
            run(5); // nothing came yet: no underrun
            playback.push(frame(0.1));
            run(25); // 15 blocks of sound, then nothing
            playback.push(frame(0.2));
            run(5); // one more frame is gathered before sound goes on
            playback.push(frame(0.3));
            run(30);
            playback.end();
            const { underruns, played, finished } = playback;
            return { underruns, played, finished, heard: heard.filter((sample) => sample !== 0) };
        }"""
    )
    assert (result["underruns"], result["played"], result["finished"]) == (1, 3 * 1920, True)
    assert [round(sample, 1) for sample in result["heard"]] == [0.1] * 1920 + [0.2] * 1920 + [0.3] * 1920


async def test_an_interruption_fades_within_five_milliseconds_and_waiting_for_the_end_is_no_underrun(
    page: Page,
) -> None:
    result = await page.evaluate(
        """async () => {
            const { Playback } = await import("./playback.js");
            const playback = new Playback();
            playback.push(new Float32Array(4800).fill(1));
            const output = new Float32Array(128);
            playback.fill(output);
            playback.stop();
            const after = new Float32Array(256);
            playback.fill(after);
            const [fade, rest] = [[...after.slice(0, 120)], [...after.slice(120)]];
            const stopped = { finished: playback.finished, fade, rest };
            playback.reset();
            playback.push(new Float32Array(1920).fill(1));
            playback.fill(new Float32Array(4096)); // the sound is over before its end is told
            playback.end();
            return { ...stopped, underruns: playback.underruns };
        }"""
    )
    assert result["finished"]
    assert result["fade"] == sorted(result["fade"], reverse=True)
    assert set(result["rest"]) == {0}
    assert result["underruns"] == 0

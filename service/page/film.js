// The frames that the network was shown, drawn from the user's own file.

const HEIGHT = 96;
const SAME_MS = 2000;
const INSIDE_S = 0.002; // times are rounded to a millisecond: a little later is the same frame

function once(video, event, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const stop = () => reject(new Error(`no ${event}`));
    signal.addEventListener("abort", stop, { once: true });
    video.addEventListener("error", stop, { once: true });
    video.addEventListener(event, resolve, { once: true });
  });
}

/** Wait for `loadeddata` or `seeked` and for the picture: both may come while the one before stands.
 *
 * A seek to the picture that is there already need not show another.
 */
function shown(video, event, signal) {
  const come = once(video, event, signal);
  if (!video.requestVideoFrameCallback) return come;
  const picture = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  const same = () => new Promise((resolve) => setTimeout(resolve, SAME_MS));
  return come.then(() => Promise.race([picture, same()]));
}

/** Call `found(i, address)` with a picture for each of the times, as soon as it is drawn.
 *
 * Nothing is found where the browser cannot play the file, though the server can.
 */
export async function drawFrames(file, times, found, signal) {
  const video = document.createElement("video");
  const canvas = document.createElement("canvas");
  video.muted = video.playsInline = true;
  video.preload = "auto";
  try {
    const loaded = shown(video, "loadeddata", signal);
    video.src = URL.createObjectURL(file);
    await loaded;
    signal.throwIfAborted();
    canvas.height = HEIGHT;
    canvas.width = Math.round((HEIGHT * video.videoWidth) / video.videoHeight);
    for (const [i, time] of times.entries()) {
      const seeked = shown(video, "seeked", signal);
      video.currentTime = time + INSIDE_S;
      await seeked;
      signal.throwIfAborted();
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      found(i, canvas.toDataURL("image/jpeg", 0.8));
    }
  } catch {
    // A file that this browser does not play, or another question: the times stay.
  } finally {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  }
}

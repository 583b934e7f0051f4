/** What is looked at: a picture, a clip or the camera, as frames. */

import { PageError } from "./errors.mjs";

/**
 * A source: {name, isLive, width, height, image, next, close}. image: what a canvas draws, a still
 * or a video element. next: resolves with the time of a new frame in seconds, live sources alone.
 */
export async function openPicture(file) {
  let image;
  try {
    image = await createImageBitmap(file, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new PageError(
      `${file.name}: expected a picture that this browser shows, found none; convert it to PNG or JPEG`,
    );
  }
  const { width, height } = image;
  return { name: file.name, isLive: false, width, height, image, close: () => image.close() };
}

export async function openClip(file) {
  const url = URL.createObjectURL(file);
  return openVideo(
    file.name,
    (video) => (video.src = url),
    () => URL.revokeObjectURL(url),
  );
}

export async function openCamera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user" },
      audio: false,
    });
  } catch (error) {
    throw new PageError(
      `expected a camera, found: ${error.message}; connect one, and allow this page to see it`,
    );
  }
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  return openVideo("camera", (video) => (video.srcObject = stream), stop);
}

async function openVideo(name, attach, release) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, loop: true });
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () =>
      reject(
        new PageError(
          `${name}: expected a clip that this browser plays, found none; convert it to MP4 (H.264) or WebM`,
        ),
      );
    attach(video);
  })
    .then(() => video.play())
    .catch((error) => {
      release();
      throw error;
    });
  return {
    name,
    isLive: true,
    width: video.videoWidth,
    height: video.videoHeight,
    image: video,
    next: () =>
      new Promise((resolve) =>
        video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime)),
      ),
    close() {
      video.pause();
      video.removeAttribute("src");
      video.srcObject = null;
      release();
    },
  };
}

/** Files of models: from a server with progress and a cache, or from this machine's own folders. */

import { PageError } from "./errors.mjs";

const CACHE = "models-by-sha256";
const MANIFEST = "manifest.json";

/**
 * The models of the folder that the page is served with: {models, media, boxes}, as
 * cigpose_runtime/web/folder.py lists it. A model has {name, size, read}.
 */
export async function servedFolder() {
  const base = new URL("folder/", import.meta.url);
  const listing = await (await fetch(new URL("folder.json", base))).json();
  const address = (name) => new URL(encodeURIComponent(name), base);
  return {
    models: listing.models.map(({ file, size, sha256 }) => ({
      name: file,
      size,
      read: (onProgress) => download(address(file), size, sha256, onProgress),
    })),
    media: listing.media.map((name) => ({
      name,
      async read() {
        const content = await (await fetch(address(name))).blob();
        return new File([content], name, { type: content.type });
      },
    })),
    boxes: listing.boxes ? await (await fetch(address("boxes.json"))).json() : {},
  };
}

/** The models of a release in a folder of this machine; files: a FileList. Throws PageError. */
export async function pickedRelease(files) {
  const byPath = new Map(
    [...files].map((file) => [file.webkitRelativePath.replace(/^[^/]*\//, ""), file]),
  );
  const manifest = byPath.get(MANIFEST);
  if (!manifest) {
    throw new PageError(
      "expected a release's folder, found none of its manifest.json; choose the folder that make release leaves",
    );
  }
  let listed;
  try {
    const { files: all, models } = JSON.parse(await manifest.text());
    listed = Object.values(models).map((path) => all.find((file) => file.path === path));
    if (!listed.every((file) => /^[0-9a-f]{64}$/.test(file.sha256))) throw new TypeError();
  } catch {
    throw new PageError(
      "expected the manifest of a release, found another manifest.json; download it again",
    );
  }
  return listed
    .filter(({ path }) => byPath.has(path))
    .map(({ path, size, sha256 }) => ({
      name: path,
      size,
      read: async () => checked(new Uint8Array(await byPath.get(path).arrayBuffer()), sha256, path),
    }));
}

/** The bytes of a model; from the cache, if they were downloaded before. Throws PageError. */
async function download(url, size, sha256, onProgress) {
  const name = decodeURIComponent(url.pathname.split("/").pop());
  const cache = await globalThis.caches?.open(CACHE);
  const key = new URL(`/${CACHE}/${sha256}`, url); // whatever the secret path is this time
  const kept = await cache?.match(key);
  const response = kept ?? (await fetch(url).catch(() => ({ status: "none" })));
  if (!response.ok) {
    throw new PageError(
      `${name}: expected it from the server, found status ${response.status}; start the command again, and open its address`,
    );
  }
  const bytes = new Uint8Array(size);
  let done = 0;
  for (const reader = response.body.getReader(); ;) {
    const { value } = await reader.read();
    if (!value || done + value.length > size) break;
    bytes.set(value, done);
    done += value.length;
    onProgress(done, size, Boolean(kept));
  }
  await checked(bytes, sha256, name).catch(async (error) => {
    await cache?.delete(key);
    throw error;
  });
  // Kept where there is room; the next visit downloads it again where there is none.
  if (!kept) await cache?.put(key, new Response(bytes)).catch(() => {});
  return bytes;
}

async function checked(bytes, sha256, name) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== sha256) {
    throw new PageError(
      `${name}: expected the file that was listed, found other bytes; load the page again`,
    );
  }
  return bytes;
}

/** What the page raises on purpose: one line with what was expected, found, and what to do next. */
export class PageError extends Error {}

/** Any error on one line, for the page to show. */
export function said(error) {
  const text = String(error?.message ?? error).split("\n")[0];
  return text.length > 300 ? `${text.slice(0, 300)} …` : text;
}

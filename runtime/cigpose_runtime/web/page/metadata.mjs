/** A model's metadata as a table, a row for each value; long lists are shortened. */

const MOST_SHOWN = 6;

export function showMetadata(body, metadata) {
  body.replaceChildren(...rows("", metadata));
}

function rows(prefix, document) {
  return Object.entries(document).flatMap(([key, value]) => {
    const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
    if (isObject) return rows(`${prefix}${key} · `, value);
    const row = window.document.createElement("tr");
    const [name, shown] = ["th", "td"].map((tag) =>
      row.appendChild(window.document.createElement(tag)),
    );
    name.scope = "row";
    name.textContent = prefix + key;
    shown.textContent = Array.isArray(value) ? list(value) : String(value);
    return [row];
  });
}

function list(values) {
  const shown = values
    .slice(0, MOST_SHOWN)
    .map((value) => (Array.isArray(value) ? value.join("–") : String(value)));
  const more = values.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

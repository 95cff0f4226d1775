// The recipe that is being made: kept in this browser, the same in every tab.
// An edit: {dictionary, hook_point, model, feature, operation, value, unit, window, label, on}

const KEY = "onesense-draft";
const listeners = new Set();

export function edits() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => one && Number.isInteger(one.feature) && one.dictionary) : [];
  } catch {
    return [];
  }
}

export function keep(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
  } catch {
    // storage is switched off: the draft lives as long as the page
  }
  for (const listener of listeners) listener(list);
}

// Puts an edit into the draft, in place of one of the same feature and operation.
export function add(edit) {
  const same = (one) =>
    one.dictionary === edit.dictionary && one.feature === edit.feature && one.operation === edit.operation;
  keep([...edits().filter((one) => !same(one)), edit]);
}

export function onChange(listener) {
  listeners.add(listener);
}

addEventListener("storage", (event) => {
  if (event.key === KEY) for (const listener of listeners) listener(edits());
});

// What is known of an edited feature, and what its amounts mean: units, ranges, doses.

import { read } from "./requests.js";

export const SHARES = new Set(["scale", "ablate", "project_out"]);
const known = new Map();
const measured = new Map();

// Row norm, largest activation, mean norm and words of a feature; asked for once.
export function facts(edit) {
  const address = `/api/edits/describe?dictionary=${encodeURIComponent(edit.dictionary)}&feature=${edit.feature}`;
  if (!known.has(address)) {
    const found = read(address);
    found.catch(() => known.delete(address));
    known.set(address, found);
  }
  return known.get(address);
}

// Mean norms that a run measured, for hook points where none was known before.
export function learn(doses) {
  for (const one of doses) if (one.mean_norm > 0) measured.set(one.hook_point, one.mean_norm);
}

// How much of the feature's own activation one of the unit is; null where that is not known.
export function factor(unit, found) {
  if (unit === "max") return found.max_activation > 0 ? found.max_activation : null;
  if (unit === "norm") return found.mean_norm && found.row_norm ? found.mean_norm / found.row_norm : null;
  return 1;
}

// Why a unit cannot be used; empty where it can.
export function whyNot(unit, found) {
  if (unit === "max" && found.max_activation === 0) return "“max” cannot be used: the feature never fired in the run.";
  if (unit === "max" && found.max_activation === null) return "“max” cannot be used: no run has looked where the feature fires.";
  if (unit === "norm" && found.row_norm === 0) return "“norm” cannot be used: the feature’s decoder row is zero.";
  return "";
}

// The same amount in another unit, to four digits; as it is where one of the two is not known.
export function converted(value, from, to, found) {
  const [old, fresh] = [factor(from, found), factor(to, found)];
  return old && fresh ? Number(((value * old) / fresh).toPrecision(4)) : value;
}

// Lowest and highest value of the slider, and its step.
export function range(edit, found) {
  if (edit.operation === "scale") return [-2, 4, 0.05];
  if (edit.operation === "project_out") return [0, 2, 0.05];
  const signed = edit.operation === "direction_add" || edit.operation === "add";
  if (edit.unit === "norm") return [signed ? -2 : 0, 2, 0.05];
  if (edit.unit === "max") return [signed ? -4 : 0, 4, 0.05];
  const twice = factor("norm", found) ? 2 * factor("norm", found) : 4 * (factor("max", found) ?? 25);
  const top = Number(twice.toPrecision(2));
  return [signed ? -top : 0, top, Number((top / 100).toPrecision(1))];
}

// Norm of what is added, as a share of the mean norm; null where it is not known.
export function dose(edit, found) {
  const value = Number(edit.value);
  if (edit.operation === "project_out") return null;
  if (edit.unit === "norm" && !SHARES.has(edit.operation)) return Math.abs(value);
  const norm = found.mean_norm ?? measured.get(edit.hook_point);
  if (!norm || !found.row_norm) return null;
  const share = found.row_norm / norm;
  if (SHARES.has(edit.operation)) {
    const change = Math.abs((edit.operation === "ablate" ? 0 : value) - 1);
    return found.max_activation ? change * found.max_activation * share : null;
  }
  const unit = factor(edit.unit ?? "raw", found);
  return unit === null ? null : Math.abs(value * unit) * share;
}

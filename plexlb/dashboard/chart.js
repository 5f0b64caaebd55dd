// The load of the last hour as lines of an SVG. One unit across is one step, so
// that a new one changes two attributes; colours are left to the style sheet.

export const steps = 180;

const height = 40;

// draw sets the paths of a chart and returns the highest load in it.
export function draw({ area, line, capacity }, history, room) {
  const peak = history.reduce((most, load) => Math.max(most, load ?? 0), 0);
  const top = Math.max(room, peak) * 1.1 || 1;
  const y = (load) => Math.round((1 - load / top) * height * 10) / 10;
  let lines = "";
  let areas = "";
  let from = -1;
  // What is not known is a gap, not a zero.
  for (let i = 0; i <= history.length; i++) {
    const known = i < history.length && history[i] !== null && history[i] !== undefined;
    const x = steps - history.length + i;
    if (known) {
      if (from < 0) from = x;
      lines += `${from === x ? "M" : "L"}${x} ${y(history[i])}`;
      areas += `${from === x ? `M${x} ${height}` : ""}L${x} ${y(history[i])}`;
    } else if (from >= 0) {
      // A step alone between gaps would be a line of no length.
      if (from === x - 1) lines += "h0.5";
      areas += `L${x - 1} ${height}Z`;
      from = -1;
    }
  }
  set(line, lines);
  set(area, areas);
  set(capacity, `M0 ${y(room)}H${steps}`);
  return peak;
}

function set(path, d) {
  if (path.getAttribute("d") !== d) path.setAttribute("d", d);
}

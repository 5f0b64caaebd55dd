import { address, el, show } from "./dom.js";
import {
  causes,
  clock,
  count,
  exact,
  exclusions,
  kindTexts,
  kinds,
  legible,
  reasons,
  said,
  sessionStates,
  span,
  when,
  whole,
} from "./words.js";

// A playback that changes is asked about again, at most this often.
const pause = 2000;

// Explanation is the dialog that says why a playback is where it is. Which one
// it is about stands in the address of the page, which can be sent to others.
export class Explanation {
  #cluster;
  #on;
  #id = "";
  #asked = 0;
  #late = 0;
  #dialog = document.getElementById("explanation");
  #title = document.querySelector("#explanation-head bdi");
  #note = document.getElementById("explanation-note");
  #body = document.getElementById("explanation-body");

  // on.move(id) is called for the button.
  constructor(cluster, on) {
    this.#cluster = cluster;
    this.#on = on;
    document.getElementById("explanation-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#dialog.close(); // beside it
    });
    this.#dialog.addEventListener("close", () => {
      if (this.#dialog.open) return; // for the next one, meanwhile
      this.#id = "";
      clearTimeout(this.#late);
      if (wanted()) history.replaceState(null, "", location.pathname + location.search);
    });
    addEventListener("hashchange", () => this.#follow());
    this.#follow();
  }

  // update is called with what has changed.
  update(news) {
    if (!this.#id || !(news.all || news.sessions.has(this.#id))) return;
    clearTimeout(this.#late);
    this.#late = setTimeout(() => this.#ask(), Math.max(0, this.#asked + pause - Date.now()));
  }

  #follow() {
    const id = wanted();
    if (id === this.#id) return;
    this.#id = id;
    if (!id) {
      this.#dialog.close();
      return;
    }
    const s = this.#cluster.sessions.get(id);
    this.#title.textContent = s ? s.label : "Playback";
    this.#body.replaceChildren();
    this.#say("Asking…");
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#ask();
  }

  async #ask() {
    const id = this.#id;
    this.#asked = Date.now();
    const url = address("session");
    url.searchParams.set("id", id);
    let answer;
    let found;
    try {
      found = await fetch(url, { headers: { Accept: "application/json" } });
      answer = await found.json();
    } catch {
      if (id === this.#id) this.#say("The balancer did not answer. It is asked again when the playback changes.");
      return;
    }
    if (id !== this.#id) return; // another was opened meanwhile
    if (found.ok) {
      this.#say("");
      this.#title.textContent = legible(answer.title, 1000) || legible(answer.item) || "untitled";
      this.#body.replaceChildren(...this.#told(answer));
    } else if (found.status === 404) {
      this.#say("This playback is over, or nobody knows it.");
    } else {
      this.#say(legible(answer?.error) || `The balancer answered with status ${found.status}.`);
    }
  }

  #say(what) {
    show(this.#note, what !== "");
    this.#note.textContent = what;
  }

  #told(s) {
    const now = this.#cluster.now();
    const ago = (seconds) => `${span(seconds * 1000)} ago`;
    const why = s.why ?? {};
    const parts = [
      el("p", { class: "because" }, "It is on ", bold(s.server), ": ", said(reasons, why.reason), "."),
      facts([
        ["Kind", `${said(kinds, s.kind)}: ${said(kindTexts, s.kind)}`],
        ["State", said(sessionStates, s.state)],
        ["Client", legible(s.client)],
        ["Since", `${clock(when(s.placed_at), now)} (${ago(s.age_seconds)})`],
        ["Last heard of", ago(s.idle_seconds)],
        ["Can be moved", s.movable ? "yes" : "no"],
        ["Item", legible(s.item, 1000)],
        ["Session", legible(s.id, 1000)],
        ["Transcode id", legible(s.ids?.transcode, 1000)],
        ["Session id", legible(s.ids?.session, 1000)],
        ["Playback id", legible(s.ids?.playback, 1000)],
        ["Client id", legible(s.ids?.client, 1000)],
      ]),
    ];
    if (this.#cluster.control) {
      const move = el("button", { type: "button", "data-do": "move", disabled: !s.movable }, "Move…");
      move.addEventListener("click", () => this.#on.move(s.id));
      const reason =
        this.#cluster.mode === "separate"
          ? "Between libraries nothing can be moved."
          : "Its start is not known here, or it has no segments.";
      parts.push(el("p", { class: "actions" }, move, s.movable ? null : ` ${reason}`));
    }
    parts.push(...choice(why, "How the servers stood, ", "candidates", now));
    if (s.first_why) parts.push(...choice(s.first_why, "When it was placed first, ", "first", now));
    if (s.moves?.length) {
      parts.push(
        el("h3", {}, `Its moves (${whole(s.moves.length)})`),
        table(
          "moved",
          ["When", "From", "To", "Because"],
          s.moves.map((m) => ({
            cells: [clock(when(m.at), now), el("bdi", {}, m.from), el("bdi", {}, m.to), said(causes, m.cause)],
          })),
        ),
      );
    }
    return parts;
  }
}

// wanted is the playback that the address of the page names.
function wanted() {
  return new URLSearchParams(location.hash.slice(1)).get("session") ?? "";
}

const bold = (s) => el("b", {}, el("bdi", {}, legible(s)));

function facts(list) {
  const all = el("dl", {});
  for (const [name, value] of list) {
    if (value) all.append(el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, value))));
  }
  return all;
}

// On a phone every cell says by itself what it is.
function table(name, heads, rows) {
  const head = el("tr", { role: "row" }, ...heads.map((h) => el("th", { scope: "col", role: "columnheader" }, h)));
  const body = rows.map(({ mark, cells }) =>
    el(
      "tr",
      { role: "row", "data-chosen": mark },
      ...cells.map((c, i) => el("td", { role: "cell", "data-head": heads[i] }, c)),
    ),
  );
  return el(
    "table",
    { role: "table", "data-table": name },
    el("thead", { role: "rowgroup" }, head),
    el("tbody", { role: "rowgroup" }, ...body),
  );
}

// choice shows what a choice was made from.
function choice(why, head, name, now) {
  if (!why.table?.length) return [];
  const best = why.table.find((r) => r.server === why.server)?.score;
  const expects = why.table.some((r) => r.expected > 0);
  const withExpected = (cells, cell) => (expects ? [...cells.slice(0, 2), cell, ...cells.slice(2)] : cells);
  return [
    el("h3", {}, head, clock(when(why.at), now)),
    table(
      name,
      withExpected(["Server", "Load", "Its cost", "Weight", "Score", "Verdict"], "Expected"),
      why.table.map((r) => {
        const chosen = r.server === why.server;
        const out = r.excluded ? said(exclusions, r.excluded) : "";
        const verdict = chosen
          ? ["chosen", out].filter(Boolean).join(", ")
          : out || (r.score > best ? "had a higher score" : "");
        return {
          mark: chosen,
          cells: withExpected(
            [bold(r.server), exact(r.load), exact(r.cost), exact(r.weight), exact(r.score), verdict],
            exact(r.expected),
          ),
        };
      }),
    ),
    el(
      "p",
      { class: "small" },
      expects
        ? "The score is (load + expected + cost) / weight; where nothing else decides, the lowest is chosen. " +
            "Expected is what others may begin there meanwhile, past this balancer; partly by lot, " +
            "so that two balancers do not fill the same server."
        : "The score is (load + cost) / weight; where nothing else decides, the lowest is chosen.",
      why.more ? ` ${count(why.more, "server more was", "servers more were")} looked at.` : "",
    ),
  ];
}

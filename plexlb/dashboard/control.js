import { address, el, show } from "./dom.js";
import { count, legible, tenth } from "./words.js";

// Control is the dialog in which an operator confirms what is to be done. What
// came of it is seen on the page, through the feed.
export class Control {
  #cluster;
  #order = null; // what is sent when the operator confirms
  #busy = false;
  #dialog = document.getElementById("control");
  #head = document.getElementById("control-head");
  #body = document.getElementById("control-body");
  #error = document.getElementById("control-error");
  #confirm = document.getElementById("control-confirm");

  constructor(cluster) {
    this.#cluster = cluster;
    document.getElementById("control-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  drain(name) {
    const server = this.#cluster.servers.get(name);
    if (!server) return;
    const separate = this.#cluster.mode === "separate";
    const playing = server.playbacks + server.others;
    const minutes = el("input", {
      type: "number",
      id: "control-minutes",
      min: 1,
      max: 1440,
      value: 30,
      inputmode: "numeric",
      "aria-label": "Minutes",
    });
    const what = el("p", { id: "control-what", role: "status" });
    const ways = [
      way("finish", true, false, "Let people finish"),
      way("now", false, separate, "Move them at once"),
      way("later", false, separate, "Move them after ", minutes, " minutes"),
    ];
    minutes.disabled = separate;
    minutes.addEventListener("focus", () => {
      ways[2].querySelector("input").checked = true;
      explain();
    });

    const chosen = () => this.#dialog.querySelector("input[name=way]:checked").value;
    const them = playing ? `The ${count(playing, "playback that it has", "playbacks that it has")}` : "";
    const ends = playing === 1 ? "goes on there until it ends" : "go on there until they end";
    const explain = () => {
      const leave = playing === 1 ? "is carried to another server" : "are carried to other servers";
      const after = minutes.validity.valid ? count(Number(minutes.value), "minute", "minutes") : "that time";
      what.replaceChildren(
        bold(name),
        " takes no new playbacks. ",
        !playing
          ? "It has none now."
          : {
              finish: `${them} ${ends}.`,
              now: `${them} ${leave} now, a few at a time; viewers see one slow segment. What cannot be carried goes on until it ends.`,
              later: `${them} ${ends}, but after ${after} what is left is carried to other servers.`,
            }[chosen()],
      );
    };
    this.#ask(
      ["Drain ", bold(name), "?"],
      "Drain",
      [
        el("fieldset", {}, el("legend", {}, "What about those who are watching?"), ...ways),
        separate
          ? el(
              "p",
              { class: "small" },
              "In separate mode playbacks cannot be moved: each server has a library of its own.",
            )
          : null,
        what,
        el("p", { class: "small" }, "It stays so until it is undrained, or Caddy is restarted."),
      ],
      () => ({
        do: "drain",
        server: name,
        ...{ finish: {}, now: { move: true }, later: { move_after: `${Math.round(minutes.valueAsNumber)}m` } }[
          chosen()
        ],
      }),
    );
    this.#body.oninput = explain;
    explain();
  }

  undrain(name) {
    const server = this.#cluster.servers.get(name);
    if (!server) return;
    const waiting = Number.isFinite(server.leaves) ? " What it still plays is not moved away any more." : "";
    this.#ask(
      ["Undrain ", bold(name), "?"],
      "Undrain",
      [
        el(
          "p",
          { id: "control-what" },
          bold(name),
          ` takes new playbacks again.${waiting} Those that were moved away stay where they are.`,
        ),
      ],
      () => ({ do: "undrain", server: name }),
    );
  }

  move(id) {
    const session = this.#cluster.sessions.get(id);
    if (!session) return;
    const title = () => el("bdi", { class: "title" }, legible(session.title, 120) || session.label);
    const servers = [...this.#cluster.servers.values()].filter((s) => takes(s, session));
    if (!servers.length) {
      this.#ask(
        ["Move ", title(), "?"],
        null,
        [el("p", { id: "control-what" }, "No other server can take it now.")],
        () => null,
      );
      return;
    }
    const choice = el(
      "select",
      { id: "control-server" },
      ...servers.map((s) =>
        el(
          "option",
          { value: s.name },
          `${legible(s.name)}: load ${tenth(s.load)} of ${tenth(this.#cluster.room(s))}${s.state === "full" ? ", full" : ""}`,
        ),
      ),
    );
    choice.value = servers.reduce((a, b) => (b.load / b.weight < a.load / a.weight ? b : a)).name;
    const what = el("p", { id: "control-what", role: "status" });
    const explain = () =>
      what.replaceChildren(
        "It is started on ",
        bold(choice.value),
        " where its viewer is now, and then stopped on ",
        bold(session.server),
        ". The viewer sees one slow segment.",
      );
    this.#ask(
      ["Move ", title(), "?"],
      "Move",
      [
        el("p", {}, "It is on ", bold(session.server), "."),
        el("p", {}, el("label", { for: "control-server" }, "Move it to "), choice),
        what,
      ],
      () => ({ do: "move", session: id, server: choice.value }),
    );
    this.#body.oninput = explain;
    explain();
  }

  // ask opens the dialog. Without a verb there is nothing to confirm.
  #ask(head, verb, body, order) {
    this.#order = order;
    this.#busy = false;
    this.#head.replaceChildren(...head);
    this.#body.replaceChildren(...body.filter(Boolean));
    this.#body.oninput = null;
    this.#confirm.textContent = verb ?? "";
    this.#confirm.disabled = false;
    show(this.#confirm, verb !== null);
    this.#fail("");
    this.#dialog.showModal();
  }

  async #send() {
    const order = this.#order();
    if (this.#busy || !order) return;
    const sent = this.#order;
    const verb = this.#confirm.textContent;
    this.#busy = true;
    this.#confirm.disabled = true;
    this.#confirm.textContent = "Working…";
    this.#fail("");
    let error = "";
    try {
      const answer = await fetch(address("control"), {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(order),
      });
      if (!answer.ok) {
        const said = await answer.json().catch(() => null);
        error = legible(said?.error, 1000) || `The balancer answered with status ${answer.status}.`;
      }
    } catch {
      error = "The balancer did not answer. Whether it was done will be seen on the page.";
    }
    // Cancelled, and perhaps opened for something else, while it was on its way.
    if (this.#order !== sent || !this.#dialog.open) return;
    this.#busy = false;
    this.#confirm.disabled = false;
    this.#confirm.textContent = verb;
    if (error) this.#fail(error);
    else this.#dialog.close();
  }

  #fail(what) {
    show(this.#error, what !== "");
    this.#error.textContent = what;
  }
}

// takes says whether a server can take a playback. Limits are of video
// transcodes only.
function takes(server, session) {
  if (server.name === session.server || server.draining) return false;
  const light = session.kind === "copy" || session.kind === "none";
  return server.state === "up" || (server.state === "full" && light);
}

function way(value, checked, disabled, ...label) {
  const radio = el("input", { type: "radio", name: "way", value, checked, disabled });
  return el("label", { class: "way" }, radio, el("span", {}, ...label));
}

const bold = (s) => el("b", {}, el("bdi", {}, legible(s)));

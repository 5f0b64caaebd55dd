// What the words of the API mean, and how numbers and times are written.

export const reasons = {
  least_load: "the least load for its weight",
  hashed: "where all go that look like it: it does not say who it is",
  client_server: "where its device stays",
  live_playback: "where its device was playing already",
  adopted: "the server said that it was playing it",
  server_lost: "its former server was not available",
  overflow: "all servers were at their limits; the least load for its weight",
  resumed: "it was carried there, or begun anew where it was",
};

export const causes = {
  server_lost: "its server was not available",
  session_lost: "its server did not have the session any more",
  hung: "its server did not answer",
  refused: "its server refused it, or failed",
  drained: "its server was to be emptied",
  operator: "an operator moved it",
  rebalanced: "an operator had the load shared out",
};

export const kinds = { gpu: "GPU", cpu: "CPU", copy: "copy", none: "direct" };

export const kindTexts = {
  gpu: "video transcoded in hardware",
  cpu: "video transcoded in software",
  copy: "repacked without transcoding the video",
  none: "played as it is",
};

export const sessionStates = {
  reserved: "starting: sent there, and not reported by the server yet",
  confirmed: "confirmed by the server",
  expired: "the server does not list it any more",
  ended: "ended",
  lost: "lost: it could not be carried to another server",
};

// What is said of a playback in the table; nothing if all is well.
export const sessionTags = { reserved: "starting", expired: "not listed", ended: "ended", lost: "lost" };

// Of a server that is not simply up: the sentence about one, that about
// several, and whether somebody should look.
export const serverStates = {
  down: { one: "is down", many: "are down", level: "warning" },
  unreachable: { one: "cannot be read", many: "cannot be read", level: "warning" },
  maintenance: {
    one: "is in maintenance and takes nothing",
    many: "are in maintenance and take nothing",
    level: "warning",
  },
  shunned: {
    one: "is avoided: starts of several films by several people failed there",
    many: "are avoided: starts failed there",
    level: "warning",
  },
  draining: { one: "takes no new playbacks", many: "take no new playbacks", level: "note" },
  drained: {
    one: "is drained: nothing plays there any more",
    many: "are drained: nothing plays there any more",
    level: "note",
  },
  full: { one: "is at its limit", many: "are at their limits", level: "note" },
};

// What is quietly wrong with a server.
export const degradations = {
  gpu_fallback: {
    tag: "software",
    one: "transcodes video in software, though it has a GPU",
    many: "transcode video in software, though they have a GPU",
  },
  slow_transcode: {
    tag: "slow",
    one: "transcodes video slower than real time",
    many: "transcode video slower than real time",
  },
  poll_stale: {
    tag: "not read",
    one: "could not be read for long",
    many: "could not be read for long",
  },
  token_rejected: {
    tag: "token",
    one: "does not take the token, or it is not the owner's",
    many: "do not take the token, or it is not the owner's",
  },
  identity_changed: {
    tag: "identity",
    one: "is another server than it was, or should be",
    many: "are other servers than they were, or should be",
  },
  shunned: {
    tag: "shunned",
    one: "is avoided: starts of several films by several people failed there",
    many: "are avoided: starts of several films by several people failed there",
  },
  all_full: {
    tag: "all full",
    one: "is at its limit, and so is every other that could take a playback",
    many: "are at their limits, and so is every other that could take a playback",
  },
};

// degradation has the words for a reason, also for one that is newer than this
// page.
export function degradation(reason) {
  if (Object.hasOwn(degradations, reason)) return degradations[reason];
  return { tag: reason, one: `has trouble: ${reason}`, many: `have trouble: ${reason}` };
}

// Why a server could not be chosen.
export const exclusions = {
  down: "was down",
  tried: "had been tried",
  draining: "took no new playbacks",
  maintenance: "was in maintenance",
  shunned: "was avoided",
  full: "was at its limit",
};

// said is what a word means, or the word if nobody knows.
export function said(texts, word) {
  return Object.hasOwn(texts, word) ? texts[word] : word || "unknown";
}

export function count(n, one, many) {
  return `${whole(n)} ${n === 1 ? one : many}`;
}

const wholes = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const thousandths = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

export const whole = (n) => wholes.format(n);
export const tenth = (n) => tenths.format(n);
export const exact = (n) => thousandths.format(n);

// span writes a duration in milliseconds as the commands do.
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor((s % 86400) / 3600))}h`;
}

const times = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const dates = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

// clock writes a time of day, with the date if that is not today.
export function clock(ms, now = Date.now()) {
  if (!Number.isFinite(ms)) return "";
  const today = new Date(now).toDateString() === new Date(ms).toDateString();
  return (today ? times : dates).format(ms);
}

// when reads a time of the API; NaN if there is none.
export function when(s) {
  return s ? Date.parse(s) : NaN;
}

const invisible = /^[\p{C}\p{Z}\p{M}]*$/u;

// legible is what a stranger's text is shown as: on one line, without control
// characters, and not longer than anybody reads. Empty if there is nothing to
// see in it.
export function legible(s, most = 300) {
  if (typeof s !== "string") return "";
  let short = s.length > most ? s.slice(0, most).replace(/[\ud800-\udbff]$/, "") + "…" : s;
  short = short
    .replace(/\s+/g, " ")
    .replace(/\p{Cc}/gu, "")
    .trim();
  return invisible.test(short) ? "" : short;
}

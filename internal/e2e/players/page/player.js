"use strict";

// Plays a film as a web client of Plex does, and notes what its viewer sees.
// What is seen is read from the picture: the strip along its top, see
// film_test.go.

const video = document.getElementById("video");
const cells = 32;
const frameRate = 25;

// A viewer sees a picture that stands still for longer than this.
const noticeable = 500; // ms

// From here on: a test begins it anew before each event.
let period;
// How long after play() the first picture was shown.
let startup = 0;
// The last picture.
let last = { at: 0, frame: -1, server: 0 };
let idle = true;
let sought = null; // the second that was jumped to and is not shown yet
let player = "";
let ids = {};
let mse = null; // of the library

function begin() {
	period = { began: performance.now(), frames: 0, unreadable: 0, longest: 0, stalls: 0, missed: 0, back: [], off: 0, servers: [], errors: [], fatal: [] };
	last.at = performance.now();
}
begin();

const canvas = document.createElement("canvas");
canvas.width = cells;
canvas.height = 1;
const pen = canvas.getContext("2d", { willReadFrequently: true });
pen.imageSmoothingEnabled = false;

// read returns the picture's frame number and server, or null.
function read() {
	const height = Math.floor(video.videoHeight / 18);
	// One row from the middle of the strip.
	pen.drawImage(video, 0, height, video.videoWidth, 1, 0, 0, cells, 1);
	const light = pen.getImageData(0, 0, cells, 1).data;
	const bits = (from, n) => {
		let v = 0;
		for (let i = from; i < from + n; i++) v = v * 2 + (light[4 * i] > 127 ? 1 : 0);
		return v;
	};
	const frame = bits(2, 16), server = bits(18, 4);
	if (bits(0, 2) !== 2 || bits(30, 2) !== 1 || bits(22, 8) !== (frame * 37 + server * 101) % 256) return null;
	return { frame, server };
}

function waited(gap) {
	if (gap > period.longest) period.longest = gap;
	if (gap > noticeable) period.stalls++;
}

function shown(_, about) {
	const now = performance.now();
	video.requestVideoFrameCallback(shown);
	const seen = read();
	if (startup === 0) {
		startup = now - ids.began;
		last.at = now;
	}
	const gap = now - last.at;
	if (!idle) waited(gap);
	last.at = now;
	period.frames++;
	if (seen === null) {
		period.unreadable++;
		return;
	}
	// What was left out of the film: more than went by.
	if (sought !== null && seen.frame >= (sought - 2) * frameRate) sought = null; // from the key frame before
	else if (last.frame >= 0) period.missed = Math.max(period.missed, (seen.frame - last.frame) / frameRate * 1000 - gap);
	if (seen.frame < last.frame) period.back.push([last.frame, seen.frame]);
	period.off = Math.max(period.off, Math.abs(about.mediaTime - seen.frame / frameRate));
	if (!period.servers.includes(seen.server)) period.servers.push(seen.server);
	last.frame = seen.frame;
	last.server = seen.server;
}

// report is what has been seen in this period.
function report() {
	const standing = idle ? 0 : performance.now() - last.at;
	const buffered = [];
	for (let i = 0; i < video.buffered.length; i++) buffered.push([video.buffered.start(i), video.buffered.end(i)]);
	return {
		...period, startup, longest: Math.max(period.longest, standing), frame: last.frame, server: last.server,
		paused: video.paused, time: video.currentTime, buffered, ready: video.readyState, lasted: performance.now() - period.began,
	};
}

function complain(what, fatal) {
	(fatal ? period.fatal : period.errors).push(what);
}
video.addEventListener("error", () => complain("video: " + video.error?.code + " " + video.error?.message, true));
addEventListener("error", (e) => complain("page: " + e.message, true));

const base = "/video/:/transcode/universal/";

function query(more) {
	return new URLSearchParams({
		"X-Plex-Session-Identifier": ids.playback, "X-Plex-Client-Identifier": ids.client, "X-Plex-Token": ids.token,
		"X-Plex-Product": "Plex Web", "X-Plex-Version": "4.116.1", "X-Plex-Platform": "Chrome", "X-Plex-Device-Name": player, ...more,
	});
}

// play begins the film.
async function play(library, settings) {
	player = library;
	ids = { ...settings, began: performance.now() };
	video.requestVideoFrameCallback(shown);
	const asked = query({
		hasMDE: 1, path: "/library/metadata/1", mediaIndex: 0, partIndex: 0, protocol: library === "dash.js" ? "dash" : "hls", fastSeek: 1,
		directPlay: 0, directStream: 1, location: "lan", session: ids.transcode, subtitles: "burn",
	});
	const decision = await fetch(base + "decision?" + asked, { headers: { Accept: "application/json" } });
	if (!decision.ok) throw new Error("decision: status " + decision.status);
	await decision.json();
	if (library === "dash.js") {
		mse = dashjs.MediaPlayer().create();
		// As many seconds as Plex's manifests ask for.
		mse.updateSettings({ streaming: { buffer: { bufferTimeDefault: ids.buffer, bufferTimeAtTopQuality: ids.buffer, bufferTimeAtTopQualityLongForm: ids.buffer } } });
		mse.on(dashjs.MediaPlayer.events.ERROR, (e) => complain("dash.js: " + e.error?.code + " " + e.error?.message, true));
		mse.on(dashjs.MediaPlayer.events.FRAGMENT_LOADING_COMPLETED, (e) => { if (e.error) complain("dash.js: segment " + e.request?.url, false); });
		mse.initialize(video, base + "start.mpd?" + asked, true);
	} else {
		mse = new Hls({ maxBufferLength: ids.buffer, maxMaxBufferLength: ids.buffer });
		mse.on(Hls.Events.ERROR, (_, e) => complain("hls.js: " + e.details + " " + (e.response?.code ?? "") + " " + (e.error?.message ?? ""), e.fatal));
		mse.loadSource(base + "start.m3u8?" + asked);
		mse.attachMedia(video);
		video.play();
	}
	idle = false;
	setInterval(timeline, ids.timeline);
	timeline();
}

function state() {
	return video.paused ? "paused" : video.readyState < 3 ? "buffering" : "playing";
}

async function timeline() {
	const told = query({ ratingKey: 1, key: "/library/metadata/1", state: state(), time: Math.round(video.currentTime * 1000), duration: ids.duration, hasMDE: 1 });
	try {
		await fetch("/:/timeline?" + told);
		if (video.paused && ids.ping) await fetch(base + "ping?" + query({ session: ids.transcode }));
	} catch (e) {
		complain("timeline: " + e.message, false);
	}
}

// pause stops the film, and go has it go on.
function pause() {
	idle = true;
	video.pause();
	timeline();
}
function go() {
	last.at = performance.now();
	idle = false;
	video.play();
	timeline();
}

// seek goes to a second of the film.
function seek(to) {
	sought = to;
	last.at = performance.now();
	video.currentTime = to;
}

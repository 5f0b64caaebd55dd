// Package cluster decides which Plex Media Server plays what, and remembers it.
//
// A [Ledger] holds the servers, the playbacks on them and the clients behind
// those. It is asked where a playback is ([Ledger.Find]), to choose a server
// for a new one ([Ledger.Place]), and is told what became of the request
// ([Ledger.Settle]) and what the servers report ([Ledger.Observe]). The choice
// itself is one function over plain values, [Best].
//
// The package knows neither Caddy nor HTTP nor Plex's wire forms, and has no
// clock: calls that depend on time take it, and segments, which are too many for
// that, go by what [Ledger.Now] was told.
package cluster

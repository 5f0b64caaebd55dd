package plex

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The preferences that are read, by PMS's names for them [P §8.1].
const (
	PrefHardware    = "HardwareAcceleratedCodecs"    // use hardware acceleration when available
	PrefEncoders    = "HardwareAcceleratedEncoders"  // for encoding as well
	PrefRemuxOnly   = "TranscoderCanOnlyRemuxVideo"  // transcode no video at all
	PrefTranscodes  = "TranscodeCountLimit"          // most video transcodes at once, 0 for any number
	PrefRelay       = "RelayEnabled"                 // reachable through plex.tv's relay
	PrefPublished   = "PublishServerOnPlexOnlineKey" // remote access: plex.tv tells clients the server's own address
	PrefAccessURLs  = "customConnections"            // custom server access URLs
	PrefWithoutAuth = "allowedNetworks"              // addresses and networks that need no token
	PrefSecure      = "secureConnections"            // 0 required, 1 preferred
	PrefLAN         = "LanNetworksBandwidth"         // networks that are local; none is those of the server
)

// preferenceNames are all of them. Others hold tokens and the like, and are
// not kept.
var preferenceNames = []string{
	PrefHardware, PrefEncoders, PrefRemuxOnly, PrefTranscodes, PrefRelay,
	PrefPublished, PrefAccessURLs, PrefWithoutAuth, PrefSecure, PrefLAN,
}

// SecureRequired is the value of PrefSecure with which a server wants TLS.
const SecureRequired = 0

// Preferences are those of a server's preferences that are read, by name. One
// that the server does not tell, or tells in another form, is not known.
type Preferences map[string]string

// Preferences returns how the server is set up, which it tells its owner only
// [P §2].
func (c *Client) Preferences(ctx context.Context) (Preferences, error) {
	n, err := c.fetch(ctx, "/:/prefs")
	if err != nil {
		return nil, fmt.Errorf("reading preferences: %w", err)
	}
	return readPreferences(n), nil
}

func readPreferences(n *node) Preferences {
	p := make(Preferences)
	for _, setting := range n.all("Setting") {
		id := setting.text("id")
		for _, name := range preferenceNames {
			if value, ok := setting.values["value"]; ok && id == name {
				p[name] = value
			}
		}
	}
	return p
}

// Flag returns a preference that is on or off.
func (p Preferences) Flag(name string) (on, known bool) {
	switch strings.ToLower(strings.TrimSpace(p[name])) {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// Number returns a preference that is a whole number.
func (p Preferences) Number(name string) (n int, known bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(p[name]), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
		return 0, false
	}
	return int(f), true
}

// Text returns a preference that is a text, which may be empty.
func (p Preferences) Text(name string) (text string, known bool) {
	text, known = p[name]
	return strings.TrimSpace(text), known
}

// Unknown returns the preferences that the server did not tell in a form in
// which they can be read.
func (p Preferences) Unknown() (names []string) {
	for _, name := range preferenceNames {
		known := false
		switch name {
		case PrefTranscodes, PrefSecure:
			_, known = p.Number(name)
		case PrefAccessURLs, PrefWithoutAuth, PrefLAN:
			_, known = p.Text(name)
		default:
			_, known = p.Flag(name)
		}
		if !known {
			names = append(names, name)
		}
	}
	return names
}

package plextest

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// preferences are those that change nothing about what a stand-in does: they
// are kept and told [P §8.1]. The others are part of it already.
type preferences struct {
	mu     sync.Mutex
	values map[string]any  // string, int or bool
	hidden map[string]bool // not told
}

// goodPreferences are those of a server that was set up to stand behind a
// proxy: clients know one address of it, and that is the proxy's [P §6.1].
func goodPreferences() map[string]any {
	return map[string]any{
		"HardwareAcceleratedEncoders":  true,
		"TranscoderCanOnlyRemuxVideo":  false,
		"RelayEnabled":                 false,
		"PublishServerOnPlexOnlineKey": false,
		"customConnections":            "https://plex.example.com:443",
		"allowedNetworks":              "",
		"secureConnections":            1, // preferred [P §6.4]
		"LanNetworksBandwidth":         "",
		"WanPerUserStreamCount":        0,
	}
}

// SetPreference sets a preference to a string, an int or a bool [P §8.1].
func (s *Server) SetPreference(name string, value any) {
	switch name {
	case "TranscodeCountLimit":
		s.SetTranscodeLimit(value.(int))
	case "HardwareAcceleratedCodecs":
		s.noHardware.Store(!value.(bool))
	default:
		p := &s.preferences
		p.mu.Lock()
		p.values[name] = value
		p.mu.Unlock()
	}
	s.hidePreference(name, false)
}

// HidePreference leaves a preference out of what the server tells: no list of
// them is promised to anybody.
func (s *Server) HidePreference(name string) { s.hidePreference(name, true) }

func (s *Server) hidePreference(name string, hidden bool) {
	p := &s.preferences
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hidden == nil {
		p.hidden = make(map[string]bool)
	}
	p.hidden[name] = hidden
}

// servePrefs tells the preferences, and changes the two that matter to what
// the server does [P §8.1].
func (s *Server) servePrefs(a *ask) {
	if !s.admin(a) {
		return
	}
	if a.r.Method == http.MethodPut {
		if v, ok := a.number("TranscodeCountLimit"); ok {
			s.transcodeLimit.Store(int64(v))
		}
		if v := a.query("HardwareAcceleratedCodecs"); v != "" {
			s.noHardware.Store(v != "1" && v != "true")
		}
		a.w.WriteHeader(http.StatusOK)
		return
	}
	values := map[string]any{
		"FriendlyName":              s.cfg.Name,
		"TranscodeCountLimit":       int(s.transcodeLimit.Load()),
		"HardwareAcceleratedCodecs": s.hardware(),
		"TranscoderThrottleBuffer":  int(s.cfg.ThrottleAhead / time.Second),
	}
	s.preferences.mu.Lock()
	maps.Copy(values, s.preferences.values)
	maps.DeleteFunc(values, func(name string, _ any) bool { return s.preferences.hidden[name] })
	s.preferences.mu.Unlock()

	c := container(0)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		e := newElement("Setting").set("id", name)
		switch v := values[name].(type) {
		case string:
			e.set("type", "text").set("default", "").set("value", v)
		case int:
			e.set("type", "int").set("default", 0).set("value", v)
		case bool:
			e.set("type", "bool").set("default", false).set("value", v)
		}
		c.add(e)
	}
	a.answer(c.count())
}

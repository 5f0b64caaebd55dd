package main

import (
	"encoding/json"
	"net/http"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// control tells what the stand-in knows of itself, and takes how it is to
// behave from now on. It has an address of its own: nothing that is asked here
// shows up in the log or meets a switch.
func control(s *plextest.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jobs", func(w http.ResponseWriter, _ *http.Request) { write(w, s.Jobs()) })
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) { write(w, s.Log()) })
	mux.HandleFunc("PUT /behaviour", func(w http.ResponseWriter, r *http.Request) {
		var b plextest.Behaviour
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Behave(b)
	})
	return mux
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

//go:build unix

package main

import (
	"syscall"
	"testing"
	"time"
)

func TestForgetOnSignal(t *testing.T) {
	p := start(t, build(t), 2, "-control", "127.0.0.1:0")
	get(t, "http://"+p.lines[0]+"/video/:/transcode/universal/start.mpd?path=/library/metadata/1&protocol=dash&session=mine&X-Plex-Token=owner-token")
	if got := jobs(t, p); len(got) != 1 {
		t.Fatalf("jobs = %q", got)
	}
	if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); len(jobs(t, p)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session is still there")
		}
	}
	if body, _ := get(t, "http://"+p.lines[0]+"/identity"); body == "" {
		t.Error("the server has gone with its sessions")
	}
}

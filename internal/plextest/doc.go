// Package plextest is a test double: a Plex Media Server that plays no media
// but what it is given as [Media], and the viewers who watch it. Nothing outside tests and the demo may import
// it.
//
// [Server] answers as a PMS does, as far as public evidence tells; comments
// cite the protocol notes as [P §n]. It is a reading of its own and shares no
// code with internal/plex, so that the two can disagree. Its transcoder is
// arithmetic over the clock: there is nothing to wait for and nothing to clean
// up but connections.
//
//	pms := plextest.New(plextest.Config{Name: "plex1", TranscodeLimit: 2})
//	if err := pms.Start(); err != nil { … }
//	defer pms.Close()
//
//	v := plextest.NewViewer(plextest.PlexWeb, pms.URL(), "owner-token", plextest.HEVC, 1)
//	defer v.Close()
//	err := v.Start(ctx)
//	err = v.Segment(ctx, 0)
//	fmt.Println(v.Servers(), pms.Jobs())
//
// [Viewer] imitates the clients of [P §3.3], each with its own habits about
// which ids it sends and where. It checks every segment it gets, so a playback
// that silently changed films or positions fails; [Viewer.Account] tells how long
// it had to wait for them, and what came between.
package plextest

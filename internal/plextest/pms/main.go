// Command pms runs one stand-in of a Plex Media Server as a process of its
// own, for tests that kill processes and for the demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

func main() {
	var cfg plextest.Config
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	users := flag.String("user-tokens", "", "tokens of shared users, separated by commas")
	flag.StringVar(&cfg.Name, "name", "pms", "name shown in answers")
	flag.StringVar(&cfg.Token, "token", "", "the owner's token (default owner-token)")
	flag.StringVar(&cfg.MachineIdentifier, "machine", "", "machineIdentifier (default derived from the name)")
	flag.StringVar(&cfg.Database, "database", "", "servers of one database agree on part ids")
	flag.IntVar(&cfg.TranscodeLimit, "transcode-limit", 0, "video transcodes accepted, 0 for any number")
	flag.IntVar(&cfg.GPULimit, "gpu-limit", 0, "hardware encoders, 0 for any number")
	flag.BoolVar(&cfg.NoHardware, "no-hardware", false, "transcode in software only")
	flag.DurationVar(&cfg.Lag, "lag", 0, "time until a session is listed (default 400ms)")
	flag.DurationVar(&cfg.Unsettled, "unsettled", 0, "time until a GPU transcode looks like one (default 1s)")
	flag.DurationVar(&cfg.Reap, "reap", 0, "time until an idle transcode is killed (default 3m)")
	flag.IntVar(&cfg.SegmentSize, "segment-size", 0, "bytes of a segment (default 16384)")
	flag.Parse()
	if *users != "" {
		cfg.UserTokens = strings.Split(*users, ",")
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := plextest.New(cfg)
	if err := s.StartOn(*listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer s.Close()
	fmt.Println(s.Addr())
	<-ctx.Done()
}

package plex

import (
	"errors"
	"testing"
	"time"
)

func TestTranscodeWork(t *testing.T) {
	running := func(t Transcode) Transcode {
		t.VideoDecision, t.Progress, t.Speed = "transcode", 12.5, 1.4
		return t
	}
	for name, tc := range map[string]struct {
		transcode Transcode
		want      Work
	}{
		"encoder in hardware":                   {running(Transcode{HwEncoding: "nvenc"}), GPU},
		"decoder in hardware":                   {running(Transcode{HwDecoding: "vaapi"}), GPU},
		"full pipeline, nothing else told":      {running(Transcode{HwFullPipeline: true}), GPU},
		"software":                              {running(Transcode{}), CPU},
		"hardware only requested":               {running(Transcode{HwRequested: true}), CPU},
		"too young to tell":                     {Transcode{VideoDecision: "transcode"}, GPU},
		"throttled in software":                 {Transcode{VideoDecision: "transcode", Throttled: true}, CPU},
		"throttled in hardware":                 {Transcode{VideoDecision: "transcode", Throttled: true, HwEncoding: "qsv"}, GPU},
		"no progress yet, but speed":            {Transcode{VideoDecision: "transcode", Speed: 3}, CPU},
		"complete":                              {running(Transcode{Complete: true, HwEncoding: "nvenc"}), Copy},
		"video copied":                          {Transcode{VideoDecision: "copy", HwRequested: true}, Copy},
		"video copied on a full pipeline":       {Transcode{VideoDecision: "copy", HwFullPipeline: true}, Copy},
		"music":                                 {Transcode{AudioDecision: "transcode", HwRequested: true}, Copy},
		"decision in other words":               {Transcode{VideoDecision: " Transcoding", Speed: 1, HwEncoding: "mf"}, GPU},
		"live TV in software":                   {Transcode{VideoDecision: "transcode", Progress: -1}, CPU},
		"capture of a channel":                  {Transcode{VideoDecision: "copy", Progress: -1, VideoCodec: "*", HwRequested: true}, Copy},
		"a word that only begins like copy":     {Transcode{VideoDecision: "copying"}, Copy},
		"a word too short to be a transcode":    {Transcode{VideoDecision: "trans"}, Copy},
		"subtitles burned, told by video alone": {running(Transcode{SubtitleDecision: "burn"}), CPU},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.transcode.Work(); got != tc.want {
				t.Errorf("Work() = %v, want %v", got, tc.want)
			}
			if got, want := tc.transcode.Young(), name == "too young to tell"; got != want {
				t.Errorf("Young() = %v, want %v", got, want)
			}
		})
	}
}

func TestWorkNames(t *testing.T) {
	for w, want := range map[Work]string{None: "none", Copy: "copy", CPU: "cpu", GPU: "gpu", 9: "unknown"} {
		if got := w.String(); got != want {
			t.Errorf("work %d is called %q, want %q", w, got, want)
		}
	}
}

func TestReadTranscodes(t *testing.T) {
	const full = `{"MediaContainer":{"size":1,"TranscodeSession":[{"key":"/transcode/sessions/abc","throttled":true,
		"complete":"1","error":1,"progress":"59.5","speed":2,"context":"static","sourceVideoCodec":"hevc","videoDecision":"transcode",
		"audioDecision":"copy","subtitleDecision":"burn","protocol":"dash","container":"mp4","videoCodec":"h264","width":"1280",
		"height":720,"transcodeHwRequested":"true","transcodeHwDecoding":"nvdec","transcodeHwEncoding":"nvenc",
		"transcodeHwFullPipeline":true,"timeStamp":1700000000.5,"transcodeHwDecodingTitle":"NVIDIA (NVDEC)"}]}}`
	want := Transcode{ID: "abc", Throttled: true, Complete: true, Failed: true, Progress: 59.5, Speed: 2, Context: "static",
		SourceVideoCodec: "hevc", VideoDecision: "transcode", AudioDecision: "copy", SubtitleDecision: "burn", Protocol: "dash",
		Container: "mp4", VideoCodec: "h264", Width: 1280, Height: 720, HwRequested: true, HwDecoding: "nvdec",
		HwEncoding: "nvenc", HwFullPipeline: true, StartedAt: time.UnixMilli(1700000000500)}
	for name, tc := range map[string]struct {
		body string
		want []Transcode
		err  error
	}{
		"every member, in all sorts of types": {full, []Transcode{want}, nil},
		"nothing running":                     {`{"MediaContainer":{"size":0}}`, []Transcode{}, nil},
		"nothing running, XML":                {`<MediaContainer size="0"/>`, []Transcode{}, nil},
		"an object in place of a list":        {`{"MediaContainer":{"size":1,"TranscodeSession":{"key":"a"}}}`, []Transcode{{ID: "a"}}, nil},
		"two in XML": {`<MediaContainer size="2"><TranscodeSession key="a"/><TranscodeSession key="/transcode/sessions/b" speed="1.5"/></MediaContainer>`,
			[]Transcode{{ID: "a"}, {ID: "b", Speed: 1.5}}, nil},
		"odd ones between good ones": {`{"MediaContainer":{"size":5,"TranscodeSession":["odd",{"key":"a"},null,7,[{"key":"nested"}],{"key":"b"}]}}`,
			[]Transcode{{ID: "a"}, {ID: "b"}}, nil},
		"odd members of a good one": {`{"MediaContainer":{"size":1,"TranscodeSession":[{"key":{"a":1},"speed":[1],"progress":"fast","width":1e300,
			"timeStamp":-1,"throttled":null,"complete":"no"}]}}`, []Transcode{{}}, nil},
		"numbers JSON cannot print": {`<MediaContainer size="1"><TranscodeSession speed="NaN" progress="Inf" timeStamp="1e99"/></MediaContainer>`,
			[]Transcode{{}}, nil},
		"a list of nothing we know":      {`{"MediaContainer":{"size":2,"TranscodeSession":"odd"}}`, nil, ErrNotPMS},
		"a list that says nothing":       {`{"MediaContainer":{}}`, nil, ErrNotPMS},
		"old JSON, which we cannot read": {`{"MediaContainer":{"size":1,"_children":[{"_elementType":"TranscodeSession"}]}}`, nil, ErrNotPMS},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := readContainer("", []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := readTranscodes(c)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("%d transcodes, want %d", len(got), len(tc.want))
			}
			for i, g := range got {
				if w := tc.want[i]; !g.StartedAt.Equal(w.StartedAt) {
					t.Errorf("started at %v, want %v", g.StartedAt, w.StartedAt)
				}
				g.StartedAt, tc.want[i].StartedAt = time.Time{}, time.Time{}
				if g != tc.want[i] {
					t.Errorf("read\n%+v, want\n%+v", g, tc.want[i])
				}
			}
		})
	}
}

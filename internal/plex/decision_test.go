package plex

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
)

func gzipped(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadDecision(t *testing.T) {
	const converts = `{"MediaContainer":{"size":1,"generalDecisionCode":1001,"generalDecisionText":"Direct play not available; Conversion OK.",
		"directPlayDecisionCode":"3000","transcodeDecisionCode":1001,"mdeDecisionCode":1001.0,"mdeDecisionText":"m","Metadata":[{"Media":[{"Part":[
		{"decision":"transcode","Stream":[{"streamType":3,"decision":"burn"},{"streamType":1,"decision":"transcode"}]}]}]}]}}`
	const copies = `<MediaContainer size="1" generalDecisionCode="1001" transcodeDecisionCode="1001" transcodeDecisionText="ok">
		<Video><Media><Part decision="transcode"><Stream streamType="1" decision="copy"/></Part></Media></Video></MediaContainer>`
	const plays = `<MediaContainer size="1" generalDecisionCode="1000"><Video><Media><Part decision="directplay"/></Media></Video></MediaContainer>`
	for name, tc := range map[string]struct {
		contentType, encoding string
		body                  []byte
		want                  Verdict
		work                  Work
		err                   error
	}{
		"conversion in JSON": {"application/json", "", []byte(converts), Verdict{General: 1001, DirectPlay: 3000, Transcode: 1001, MDE: 1001,
			GeneralText: "Direct play not available; Conversion OK.", MDEText: "m", Part: "transcode", Video: "transcode"}, GPU, nil},
		"remux in XML": {"text/xml", "", []byte(copies), Verdict{General: 1001, Transcode: 1001, TranscodeText: "ok", Part: "transcode",
			Video: "copy"}, Copy, nil},
		"direct play, compressed": {"text/xml;charset=utf-8", "gzip", gzipped(t, plays), Verdict{General: 1000, Part: "directplay"}, None, nil},
		"JSON that is called XML": {"text/xml", "", []byte(copies), Verdict{General: 1001, Transcode: 1001, TranscodeText: "ok", Part: "transcode",
			Video: "copy"}, Copy, nil},
		"byte order mark":         {"", "", []byte("\xef\xbb\xbf" + plays), Verdict{General: 1000, Part: "directplay"}, None, nil},
		"refusal without item":    {"text/xml", "", []byte(`<MediaContainer size="0" generalDecisionCode="2000"/>`), Verdict{General: 2000}, None, nil},
		"music":                   {"", "", []byte(`{"MediaContainer":{"generalDecisionCode":1001,"Metadata":[{"Media":[{"Part":[{"decision":"transcode"}]}]}]}}`), Verdict{General: 1001, Part: "transcode"}, Copy, nil},
		"no code":                 {"", "", []byte(`{"MediaContainer":{"size":0}}`), Verdict{}, None, ErrNotPMS},
		"web page":                {"text/html", "", []byte("<html><body>hello"), Verdict{}, None, ErrNotPMS},
		"cut JSON":                {"application/json", "", []byte(converts[:100]), Verdict{}, None, ErrTruncated},
		"cut XML":                 {"text/xml", "", []byte(copies[:100]), Verdict{}, None, ErrTruncated},
		"cut compression":         {"text/xml", "gzip", gzipped(t, copies)[:50], Verdict{}, None, ErrTruncated},
		"cut compression, early":  {"text/xml", "gzip", gzipped(t, copies)[:5], Verdict{}, None, ErrTruncated},
		"not compressed at all":   {"text/xml", "gzip", []byte(copies), Verdict{}, None, ErrNotPMS},
		"a compression bomb":      {"text/xml", "gzip", gzipped(t, strings.Repeat(" ", maxBody+1)), Verdict{}, None, ErrTooLarge},
		"too large":               {"text/xml", "", bytes.Repeat([]byte(" "), maxBody+1), Verdict{}, None, ErrTooLarge},
		"a compression we do not": {"text/xml", "br", []byte(copies), Verdict{}, None, ErrNotPMS},
		"empty XML":               {"text/xml", "gzip", nil, Verdict{}, None, ErrTruncated},
		"empty":                   {"", "", nil, Verdict{}, None, ErrNotPMS},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadDecision(tc.contentType, tc.encoding, tc.body)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if got != tc.want {
				t.Errorf("read %+v, want %+v", got, tc.want)
			}
			if err == nil && got.Work() != tc.work {
				t.Errorf("works %v, want %v", got.Work(), tc.work)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	const neither = "Neither direct play nor conversion is available."
	for name, tc := range map[string]struct {
		verdict                  Verdict
		plays, refused, capacity bool
	}{
		"direct play":          {Verdict{General: 1000, GeneralText: "Direct play OK."}, true, false, false},
		"conversion":           {Verdict{General: 1001, GeneralText: "Direct play not available; Conversion OK."}, false, false, false},
		"nothing said":         {Verdict{}, false, false, false},
		"plain refusal":        {Verdict{General: 2000, GeneralText: neither}, false, true, false},
		"no permission":        {Verdict{General: 2011, GeneralText: "Downloads not allowed"}, false, true, false},
		"the item is at fault": {Verdict{General: 2004, GeneralText: "Could not construct decision request"}, false, true, false},
		"conversion though bandwidth is short for direct play": {Verdict{General: 1001, DirectPlay: 3001,
			DirectPlayText: "Not enough bandwidth for direct play of this item."}, false, false, false},
		"no profile": {Verdict{General: 2000, GeneralText: neither, DirectPlay: 3000,
			DirectPlayText: "App cannot direct play this item. Direct play is disabled.", Transcode: 4005,
			TranscodeText: "Cannot convert this item. No conversion profile found for protocol dash."}, false, true, false},
		"no profile, by its code alone": {Verdict{General: 2000, DirectPlay: 3001,
			DirectPlayText: "Not enough bandwidth", Transcode: 4005}, false, true, false},
		"no profile, and no bandwidth for direct play": {Verdict{General: 2000, DirectPlay: 3001,
			DirectPlayText: "Not enough bandwidth", Transcode: 4000, TranscodeText: "No conversion profile found"}, false, true, false},
		"too weak": {Verdict{General: 2000, GeneralText: neither, Transcode: 4000,
			TranscodeText: "This server is not powerful enough to convert video."}, false, true, true},
		"too weak, and no profile for direct play": {Verdict{General: 2000, GeneralText: neither, DirectPlay: 3000,
			DirectPlayText: "App cannot direct play this item. No direct play video profile exists.",
			Transcode:      4000, TranscodeText: "Not enough CPU for conversion of this item."}, false, true, true},
		"bandwidth":                    {Verdict{General: 2002, GeneralText: "Not enough bandwidth for any playback of this item."}, false, true, true},
		"limit reached":                {Verdict{General: 4001, TranscodeText: "Simultaneous transcode LIMIT reached"}, false, true, true},
		"limit, as the engine says it": {Verdict{General: 2000, MDEText: "too many streams"}, false, true, true},
		"lack of permission":           {Verdict{General: 2000, GeneralText: "Insufficient permissions"}, false, true, false},
		"codec limitation": {Verdict{General: 2000, DirectPlay: 3000,
			DirectPlayText: "Video level exceeds the limitation of the app."}, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := tc.verdict
			if v.DirectPlays() != tc.plays || v.Refused() != tc.refused || v.RefusedForCapacity() != tc.capacity {
				t.Errorf("plays %v, refused %v, for capacity %v; want %v, %v, %v",
					v.DirectPlays(), v.Refused(), v.RefusedForCapacity(), tc.plays, tc.refused, tc.capacity)
			}
			if (tc.plays || tc.refused) && v.Work() != None {
				t.Errorf("works %v", v.Work())
			}
		})
	}
}

// FuzzDecision looks for answers that upset the reader, or a verdict that
// contradicts itself.
func FuzzDecision(f *testing.F) {
	f.Add("application/json", "", []byte(`{"MediaContainer":{"generalDecisionCode":2000,"generalDecisionText":"bandwidth","Metadata":[{"Media":[{"Part":[{}]}]}]}}`))
	f.Add("text/xml", "gzip", gzipped(f, `<MediaContainer generalDecisionCode="1000"/>`))
	f.Add("text/html", "x-gzip", []byte("<html/>"))
	f.Fuzz(func(t *testing.T, contentType, encoding string, body []byte) {
		v, err := ReadDecision(contentType, encoding, body)
		if err != nil {
			if v != (Verdict{}) || Reason(err) == "unreachable" {
				t.Fatalf("%+v and error %v", v, err)
			}
			return
		}
		if v.DirectPlays() && v.Refused() || v.RefusedForCapacity() && !v.Refused() || v.Refused() && v.Work() != None || v.Work() == CPU {
			t.Fatalf("%+v contradicts itself", v)
		}
	})
}

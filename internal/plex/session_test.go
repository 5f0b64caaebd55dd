package plex

import (
	"errors"
	"reflect"
	"testing"
)

func TestReadSessions(t *testing.T) {
	episode := Session{Key: "12", RatingKey: "7", Type: "episode", Title: "Pilot", GrandparentTitle: "The Show", ID: "xsi",
		Client: "tv", PlayerTitle: "Living Room", Product: "Plex for TV", User: "Ann", State: "paused", Location: "wan",
		PartDecision: "transcode", VideoDecision: "transcode", Transcode: &Transcode{ID: "tsid", VideoDecision: "transcode", HwEncoding: "vaapi"}}
	for name, tc := range map[string]struct {
		body string
		want []Session
		work []Work
		err  error
	}{
		"JSON": {
			body: `{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"12","ratingKey":7,"type":"episode","title":"Pilot","grandparentTitle":"The Show",
				"Media":[{"selected":true,"Part":[{"decision":"transcode","selected":"1","Stream":[{"streamType":2,"decision":"copy"},
				{"streamType":1,"decision":"transcode"}]}]}],"User":{"id":"1","title":"Ann"},"Session":{"id":"xsi","location":"wan"},
				"Player":{"machineIdentifier":"tv","title":"Living Room","product":"Plex for TV","state":"paused","userID":1},
				"TranscodeSession":{"key":"/transcode/sessions/tsid","videoDecision":"transcode","transcodeHwEncoding":"vaapi"}}]}}`,
			want: []Session{episode}, work: []Work{GPU},
		},
		"the same as XML, children in another order": {
			body: `<?xml version="1.0" encoding="UTF-8"?><MediaContainer size="1">
				<Video sessionKey="12" ratingKey="7" type="episode" title="Pilot" grandparentTitle="The Show">
				<Genre tag="Drama"/><TranscodeSession key="/transcode/sessions/tsid" videoDecision="transcode" transcodeHwEncoding="vaapi"/>
				<Session id="xsi" location="wan"/><User id="1" title="Ann"/>
				<Player machineIdentifier="tv" title="Living Room" product="Plex for TV" state="paused"/>
				<Media selected="1"><Part decision="transcode"><Stream streamType="1" decision="transcode"/></Part></Media></Video></MediaContainer>`,
			want: []Session{episode}, work: []Work{GPU},
		},
		"video, music and photos mixed": {
			body: `<MediaContainer size="3"><Track sessionKey="1" type="track"/><Video sessionKey="2" type="movie"/><Photo sessionKey="3" type="photo"/></MediaContainer>`,
			want: []Session{{Key: "1", Type: "track"}, {Key: "2", Type: "movie"}, {Key: "3", Type: "photo"}}, work: []Work{None, None, None},
		},
		"kinds as members in JSON": {
			body: `{"MediaContainer":{"size":2,"Track":[{"sessionKey":1}],"Video":[{"sessionKey":2}]}}`,
			want: []Session{{Key: "1"}, {Key: "2"}}, work: []Work{None, None},
		},
		"nothing playing":      {body: `{"MediaContainer":{"size":0}}`, want: []Session{}},
		"nothing playing, XML": {body: `<MediaContainer size="0"></MediaContainer>`, want: []Session{}},
		"a size that is wrong": {
			body: `{"MediaContainer":{"size":7,"Metadata":[{"sessionKey":"1"}]}}`, want: []Session{{Key: "1"}}, work: []Work{None},
		},
		"empty and missing members": {
			body: `<MediaContainer size="1"><Video sessionKey="1"><User/><Player/></Video></MediaContainer>`, want: []Session{{Key: "1"}}, work: []Work{None},
		},
		"one odd item among good ones": {
			body: `{"MediaContainer":{"size":3,"Metadata":["odd",{"sessionKey":"1","Player":"odd","User":7,"Session":[],"TranscodeSession":"odd","Media":"odd"},
				{"sessionKey":"2","Media":{"Part":{"decision":"transcode","Stream":{"streamType":"1","decision":"Transcoding"}}}}]}}`,
			want: []Session{{Key: "1"}, {Key: "2", PartDecision: "transcode", VideoDecision: "Transcoding"}}, work: []Work{None, GPU},
		},
		"transcode in a list of one": {
			body: `{"MediaContainer":{"size":1,"Metadata":[{"TranscodeSession":[{"key":"a","videoDecision":"copy"}]}]}}`,
			want: []Session{{Transcode: &Transcode{ID: "a", VideoDecision: "copy"}}}, work: []Work{Copy},
		},
		"transcode that is null": {
			body: `{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"1","TranscodeSession":null}]}}`, want: []Session{{Key: "1"}}, work: []Work{None},
		},
		"remux without a transcode session": {
			body: `<MediaContainer size="1"><Video><Media><Part decision="transcode"><Stream streamType="1" decision="copy"/></Part></Media></Video></MediaContainer>`,
			want: []Session{{PartDecision: "transcode", VideoDecision: "copy"}}, work: []Work{Copy},
		},
		"music converted without a transcode session": {
			body: `<MediaContainer size="1"><Track><Media><Part decision="transcode"><Stream streamType="2" decision="transcode"/></Part></Media></Track></MediaContainer>`,
			want: []Session{{PartDecision: "transcode"}}, work: []Work{Copy},
		},
		"direct play": {
			body: `<MediaContainer size="1"><Video><Media><Part decision="directplay"><Stream streamType="1" location="direct"/></Part></Media></Video></MediaContainer>`,
			want: []Session{{PartDecision: "directplay"}}, work: []Work{None},
		},
		"the selected version counts": {
			body: `<MediaContainer size="1"><Video><Media><Part decision="transcode"><Stream streamType="1" decision="transcode"/></Part></Media>
				<Media selected="1"><Part/><Part selected="1" decision="directplay"/></Media></Video></MediaContainer>`,
			want: []Session{{PartDecision: "directplay"}}, work: []Work{None},
		},
		"capture of a live channel is not the viewer's": {
			body: `{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"1","live":"1","Media":[{"TranscodeSession":{"key":"cap","videoDecision":"transcode"},
				"Part":[{"decision":"directplay"}]}]}]}}`,
			want: []Session{{Key: "1", Live: true, PartDecision: "directplay"}}, work: []Work{None},
		},
		"a list of nothing we know": {body: `{"MediaContainer":{"size":1,"Directory":[{}]}}`, err: ErrNotPMS},
		"a size of words":           {body: `<MediaContainer size="some"/>`, err: ErrNotPMS},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := readContainer("", []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := readSessions(c)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("read\n%+v, want\n%+v", got, tc.want)
			}
			for i, s := range got {
				if s.Work() != tc.work[i] {
					t.Errorf("session %d works %v, want %v", i, s.Work(), tc.work[i])
				}
			}
		})
	}
}

// FuzzSessions looks for answers that upset the readers of both forms.
func FuzzSessions(f *testing.F) {
	f.Add([]byte(`{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"1","Media":[{"Part":[{"Stream":[{"streamType":1}]}]}],"TranscodeSession":{"key":"a"}}]}}`))
	f.Add([]byte(`<MediaContainer size="1"><Video title="&amp;"><Media><Part/></Media><TranscodeSession key="/transcode/sessions/a"/></Video></MediaContainer>`))
	f.Add([]byte(`{"MediaContainer":{"size":1,"TranscodeSession":[{"key":"a","timeStamp":1e11}]}}`))
	f.Add([]byte(`<Response code="503" title="Maintenance"/>`))
	f.Add([]byte(`{"MediaContainer":[[[[{}]]]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := readContainer("", body)
		if err != nil {
			if c != nil || Reason(err) == "unreachable" {
				t.Fatalf("container %v, error %v", c, err)
			}
			return
		}
		sessions, err := readSessions(c)
		if err != nil && sessions != nil {
			t.Fatal("sessions despite an error")
		}
		for _, s := range sessions {
			if w := s.Work(); w > GPU {
				t.Fatalf("work %v", w)
			}
		}
		transcodes, err := readTranscodes(c)
		if err == nil && len(transcodes) == 0 && c.number("size") != 0 {
			t.Fatal("an empty list was believed")
		}
		for _, tr := range transcodes {
			if tr.Speed != tr.Speed || tr.Progress != tr.Progress {
				t.Fatal("a number that is none")
			}
			if _, err := tr.StartedAt.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

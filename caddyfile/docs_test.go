package caddyfile

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// What the documents call a Caddyfile is one that Caddy takes: whole, or put
// where such a piece belongs. The guides have whole ones only.
func TestDocuments(t *testing.T) {
	t.Cleanup(func() { validate([]byte("{}")) }) // some have their own logs
	t.Setenv("ADMIN_HASH", "$2a$04$anything")
	found := make(map[string]int)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == ".git" || e.Name() == "node_modules" || e.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".md") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, block := range fenced.FindAllSubmatchIndex(text, -1) {
			found[filepath.ToSlash(path)]++
			piece := string(text[block[2]:block[3]])
			if strings.Contains(piece, "[<") { // says how something is written
				continue
			}
			line := 1 + bytes.Count(text[:block[0]], []byte{'\n'})
			guide := filepath.Dir(path) == filepath.Join("..", "docs")
			if err := takes(piece, guide); err != nil && !foreign.MatchString(err.Error()) {
				t.Errorf("%s, line %d: %v", path, line, err)
			}
			if guide && !bytes.Equal(caddyfile.Format([]byte(piece)), []byte(piece)) {
				t.Errorf("%s, line %d: is not formatted: run caddy fmt", path, line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../README.md", "../docs/coming-from.md", "../docs/plex-settings.md"} {
		if found[path] == 0 {
			t.Errorf("no Caddyfile in %s", path)
		}
	}
}

// fenced is what stands between fences.
var fenced = regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```$")

// places are where a piece of a Caddyfile may belong.
var places = []string{
	"PIECE",
	"{\n plexlb {\n server plex1 docker1:32401\n }\n}\nPIECE",
	"{\n plexlb {\n server plex1 docker1:32401\n }\n}\n:80 {\nPIECE\n}\n",
	"{\n plexlb {\n server plex1 docker1:32401\n }\n}\n:80 {\n plexlb {\nPIECE\n}\n}\n",
	"{\n plexlb {\n server plex1 docker1:32401\nPIECE\n }\n}\n:80 {\n plexlb\n}\n",
	":80 {\n log {\nPIECE\n}\n}\n",
}

// takes reports what is wrong with a piece that fits nowhere, as told for the
// first place.
func takes(piece string, whole bool) error {
	var first error
	for i, place := range places {
		if i > 0 && whole {
			break
		}
		json, err := adapt(strings.Replace(place, "PIECE", piece, 1))
		if err == nil {
			err = validate(json)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

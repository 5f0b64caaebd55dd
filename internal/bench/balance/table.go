package balance

import (
	"fmt"
	"io"
	"strings"
)

// Report has all contenders play scenarios and writes what came of it as
// Markdown. Every number is a median over the seeds, with the least and the
// most where there are several.
func Report(w io.Writer, scenarios []Scenario, seeds int, said func(string)) error {
	for i := range scenarios {
		sc := &scenarios[i]
		said(sc.Name)
		n := seeds
		if sc.servers() > 100 {
			n = min(n, 2) // so many viewers leave little to chance
		}
		results := make([][]Result, 0, n) // by seed and contender
		for seed := range n {
			results = append(results, Run(sc, uint64(seed), Contenders...))
		}
		var b strings.Builder
		fmt.Fprintf(&b, "### %s\n\n%s. %d playbacks placed in %v; seeds 0 to %d.\n\n",
			title(sc.Name), title(sc.About), results[0][0].Starts, sc.Duration, n-1)
		b.WriteString("| | to the oracle | fullest server to the ideal | of the time, 99 % below | misplaced | first server could not | refused |\n|---|---|---|---|---|---|---|\n")
		for k, c := range Contenders {
			over := func(f func(of []Result) float64) Spread {
				var list []float64
				for _, of := range results {
					list = append(list, f(of))
				}
				return spread(list)
			}
			against := over(func(of []Result) float64 { return of[k].Against(&of[1]) })
			mean := over(func(of []Result) float64 { return of[k].Mean })
			p99 := over(func(of []Result) float64 { return of[k].P99 })
			misplaced := over(func(of []Result) float64 { return 100 * of[k].Misplaced })
			failed := over(func(of []Result) float64 { return 100 * of[k].Failed })
			refused := over(func(of []Result) float64 { return float64(of[k].Refused) })
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.1f %% | %.0f |\n", c.Name,
				against.text("%.3f"), mean.text("%.3f"), p99.text("%.2f"), misplaced.text("%.1f")+" %", failed.Median, refused.Median)
		}
		b.WriteString("\n")
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

func (s Spread) text(format string) string {
	if s.Least == s.Most {
		return fmt.Sprintf(format, s.Median)
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Least, s.Most)
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

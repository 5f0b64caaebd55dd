package balance

import (
	"fmt"
	"io"
	"strings"
)

// played is what came of a scenario, by seed and contender.
type played struct {
	*Scenario
	results [][]Result
}

// Report has all contenders play scenarios and writes what came of it as
// Markdown.
func Report(w io.Writer, scenarios []Scenario, seeds int, said func(string)) error {
	all := make([]played, 0, len(scenarios))
	for i := range scenarios {
		sc := &scenarios[i]
		said(sc.Name)
		n := seeds
		if sc.servers() >= 20 { // so many viewers leave less to chance, and take longer
			n = max(1, seeds/3)
		}
		p := played{Scenario: sc}
		for seed := range n {
			p.results = append(p.results, Run(sc, uint64(seed), Contenders...))
		}
		all = append(all, p)
	}
	var b strings.Builder
	b.WriteString("| plexlb | to the oracle | to one that knows the decision | to an informed oracle | playbacks after warming up, seeds |\n|---|---|---|---|---|\n")
	for _, p := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d, %d |\n", p.Name, p.against(plexlb, truth), p.against(plexlb, decided),
			p.against(plexlb, known), p.results[0][plexlb].Starts, len(p.results))
	}
	b.WriteString("\n")
	for _, p := range all {
		fmt.Fprintf(&b, "### %s\n\n%s.\n\n| | fullest server to the ideal | of the time, 99 %% below | misplaced | refused |\n|---|---|---|---|---|\n",
			title(p.Name), title(p.About))
		for k, c := range Contenders {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.Name,
				p.over("%.3f", func(of []Result) float64 { return of[k].Mean }),
				p.over("%.2f", func(of []Result) float64 { return of[k].P99 }),
				p.over("%.1f %%", func(of []Result) float64 { return 100 * of[k].Misplaced }),
				p.over("%.0f", func(of []Result) float64 { return float64(of[k].Refused) }))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// against is how full one contender's fullest server was in comparison to
// another's, and how sure that is.
func (p *played) against(k, other int) string {
	x, wide := ratio(p.results, k, other)
	if len(p.results) == 1 {
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.3f ± %.3f", x, wide)
}

// over is the median of a number over the seeds, with the least and the most.
func (p *played) over(format string, f func(of []Result) float64) string {
	list := make([]float64, 0, len(p.results))
	for _, of := range p.results {
		list = append(list, f(of))
	}
	return fmt.Sprintf(format, spread(list).Median) + p.between(format, f)
}

func (p *played) between(format string, f func(of []Result) float64) string {
	list := make([]float64, 0, len(p.results))
	for _, of := range p.results {
		list = append(list, f(of))
	}
	s := spread(list)
	least, most := fmt.Sprintf(format, s.Least), fmt.Sprintf(format, s.Most)
	if least == most {
		return ""
	}
	return " (" + strings.TrimSuffix(least, " %") + "–" + most + ")"
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

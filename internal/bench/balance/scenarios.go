package balance

import "time"

// mixed is what viewers play: mostly transcodes, or there would be little to
// balance.
var mixed = Mix{Video: 60, Software: 5, Copy: 15, Direct: 20}

// every5s is how plexlb reads servers by default.
var every5s = Polls{Every: 5 * time.Second, Events: true}

// evening is a quiet evening, to which the scenarios add their trouble.
func evening() Scenario {
	return Scenario{
		Servers: []Class{{Count: 1, Weight: 4}, {Count: 1, Weight: 2}, {Count: 1, Weight: 1}},
		Viewers: 60, Length: 20 * time.Minute, Duration: 24 * time.Hour,
		Mix: mixed, Silent: 0.1, Asked: 0.02, Seeks: 0.5, Polls: every5s,
	}
}

// Scenarios returns all there are.
func Scenarios() []Scenario {
	scenario := func(name, about string, change func(*Scenario)) Scenario {
		s := evening()
		s.Name, s.About = name, about
		change(&s)
		return s
	}
	bursts := func(s *Scenario) {
		s.Servers, s.Viewers, s.Duration = []Class{{Count: 2, Weight: 2}, {Count: 3, Weight: 1}}, 80, 6*time.Hour
		s.Burst = Burst{Every: 5 * time.Minute, Within: 10 * time.Second, Viewers: 40}
	}
	deaths := func(s *Scenario, step int) {
		for i := range 6 {
			s.Deaths = append(s.Deaths, Death{i * step % s.servers(), time.Duration(i)*time.Hour + 11*time.Minute, 10 * time.Minute})
		}
	}
	return []Scenario{
		scenario("evening", "three servers with weights 4:2:1, 60 viewers at once", func(*Scenario) {}),
		scenario("no events", "the same, with nothing but readings every 5 s", func(s *Scenario) {
			s.Polls.Events = false
		}),
		scenario("bursts", "five servers, and 40 more viewers within 10 s every 5 min", bursts),
		scenario("dying server", "the same, and a server dies every hour for 10 min", func(s *Scenario) {
			bursts(s)
			deaths(s, 1)
		}),
		scenario("past the balancer", "a quarter of the viewers goes straight to a server, and downloads do", func(s *Scenario) {
			s.Bypass, s.Downloads = 0.25, 0.05
		}),
		scenario("past it, no events", "the same, with nothing but readings every 5 s", func(s *Scenario) {
			s.Bypass, s.Downloads, s.Polls.Events = 0.25, 0.05, false
		}),
		scenario("late and lying", "a fifth of the readings is late; 10 % time out; 3 % are half, 3 % old, 1 % another server's", func(s *Scenario) {
			s.Servers, s.Viewers = []Class{{Count: 2, Weight: 2}, {Count: 3, Weight: 1}}, 100
			s.Polls = Polls{Every: 5 * time.Second, Late: 0.2, Missing: 0.1, Half: 0.03, Stale: 0.03, Other: 0.01}
		}),
		scenario("software", "one of three servers has no hardware, one has it for 8 at once", func(s *Scenario) {
			s.Servers = []Class{{Count: 1, Weight: 4}, {Count: 1, Weight: 2, Sessions: 8}, {Count: 1, Weight: 1, Sessions: -1}}
		}),
		scenario("limits", "five servers that refuse what exceeds their limits, which crowds reach", func(s *Scenario) {
			bursts(s)
			s.Servers, s.Viewers = []Class{{Count: 2, Weight: 2, Limit: 30}, {Count: 3, Weight: 1, Limit: 12}}, 60
		}),
		scenario("two balancers", "which share the viewers and know nothing of each other; with bursts", func(s *Scenario) {
			bursts(s)
			s.Balancers = 2
		}),
		scenario("two balancers, no events", "the same, with nothing but readings every 5 s", func(s *Scenario) {
			bursts(s)
			s.Balancers, s.Polls.Events = 2, false
		}),
		scenario("rough", "all that at once but the limits, on 20 servers, with 400 viewers", func(s *Scenario) {
			bursts(s)
			s.Servers = []Class{{Count: 5, Weight: 4}, {Count: 5, Weight: 2}, {Count: 8, Weight: 1}, {Count: 2, Weight: 1, Sessions: -1}}
			s.Viewers, s.Bypass, s.Downloads, s.Balancers = 400, 0.1, 0.03, 2
			s.Polls = Polls{Every: 5 * time.Second, Events: true, Late: 0.1, Missing: 0.05, Half: 0.02, Stale: 0.02, Other: 0.01}
			deaths(s, 3)
		}),
		scenario("100 servers", "of weights 4, 2 and 1, with 3,000 viewers", func(s *Scenario) {
			s.Servers = []Class{{Count: 20, Weight: 4}, {Count: 30, Weight: 2}, {Count: 50, Weight: 1}}
			s.Viewers, s.Duration, s.Bypass = 3000, time.Hour, 0.02
		}),
		scenario("1,000 servers", "with a million playbacks of 5 min, 40,000 at once", func(s *Scenario) {
			s.Servers = []Class{{Count: 200, Weight: 4}, {Count: 300, Weight: 2}, {Count: 500, Weight: 1}}
			s.Viewers, s.Length, s.Duration, s.Bypass = 40_000, 5*time.Minute, 2*time.Hour, 0.02
		}),
	}
}

package balance

// Preface stands before the tables: a format for the date, the processor, its
// cores, Go's version, the command, and the number of seeds.
const Preface = `## Balance

%s, %s, %d cores, %s: ` + "`%s`" + `. Virtual time, so that the machine does not matter; %d seeds, medians (least–most).

The same viewers come to each contender. *To the oracle* is how full the fullest server is for its weight, over time, in comparison to an oracle that sees all servers as they truly are at each start and takes the one that will be the least full. It does not know the future: not who comes next, nor what a server will decide a playback to be, which plexlb does not know either. Two others are for comparison: one that does know the decision beforehand, which nothing in front of the servers can; and the best that can be known, which sees everything that passed through it as it truly is, knows of everything else what readings and events have told by then, and knows a lie when it sees one. *Fullest server to the ideal* compares with all servers being equally full, which whole playbacks do not allow. *Misplaced* is the share of starts for which another server would have been less full at that moment, by the truth; in a burst that is often a matter of hundredths.

`

package breaker

import "testing"

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		limit         Limit
		resource, all Tally
		want          Excess
	}{
		"nothing":                    {Default(), Tally{0, 0}, Tally{0, 0}, Within},
		"ten of eleven are few":      {Default(), Tally{10, 11}, Tally{10, 100}, Within},
		"eleven of twelve":           {Default(), Tally{11, 12}, Tally{11, 100}, Resource},
		"exactly half":               {Default(), Tally{50, 100}, Tally{50, 1000}, Within},
		"more than half of all":      {Default(), Tally{10, 30}, Tally{60, 100}, All},
		"all four of a resource":     {Default(), Tally{4, 4}, Tally{4, 100}, Within},
		"all five of a resource":     {Default(), Tally{5, 5}, Tally{5, 100}, Whole},
		"a sixth: two of three":      {Default().Share(2, 12), Tally{2, 3}, Tally{2, 100}, Within},
		"a sixth: three of five":     {Default().Share(2, 12), Tally{3, 5}, Tally{3, 100}, Resource},
		"a sixth: the only one":      {Default().Share(2, 12), Tally{1, 1}, Tally{1, 100}, Whole},
		"a part that is all of it":   {Default().Share(12, 12), Tally{4, 4}, Tally{4, 100}, Within},
		"a part of what is unknown":  {Default().Share(1, 0), Tally{4, 4}, Tally{4, 100}, Within},
		"no limit takes what is not": {Limit{}, Tally{0, 0}, Tally{0, 0}, Within},
	} {
		if got := c.limit.Judge(c.resource, c.all); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

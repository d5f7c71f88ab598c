package settings

import "testing"

func TestConfirmsPrune(t *testing.T) {
	for given, want := range map[string]bool{
		"": false, "1-a": true, "2-b,1-a": true, "2-b 1-a": true, "1-a, 2-b": true, "1-ab": false, "11-a": false,
	} {
		if got := (Settings{ConfirmPrune: given}).ConfirmsPrune("1-a"); got != want {
			t.Errorf("%q: %v, want %v", given, got, want)
		}
	}
	if (Settings{}).ConfirmsPrune("") {
		t.Error("nothing given confirms nothing")
	}
}

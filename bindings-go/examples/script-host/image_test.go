package main

import "testing"

func TestReferenceValidation(t *testing.T) {
	for _, good := range []string{"r.example/a", "r.example:5000/team/shop:1.4", "127.0.0.1:1/a-b_c.d/e:T-1"} {
		if !reference.MatchString(good) {
			t.Errorf("%q is rejected", good)
		}
	}
	for _, bad := range []string{"", "a", "/a", "r/", "r/A", "r/a:", "r/a@sha256:12", "r/a b", "r//a", "http://r/a"} {
		if reference.MatchString(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

package main

import "testing"

func TestReferenceValidation(t *testing.T) {
	for _, good := range []string{"r.example/a", "r.example:5000/team/shop:1.4", "127.0.0.1:1/a-b_c.d/e:T-1", "[::1]:5000/a:1"} {
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

func TestSchemeOfInsecureRegistries(t *testing.T) {
	i := newImages([]string{"127.0.0.1", "[::1]", "r.example:5000"})
	for registry, want := range map[string]string{
		"127.0.0.1": "http", "127.0.0.1:5000": "http", "[::1]": "http", "[::1]:5000": "http", "r.example:5000": "http",
		"r.example": "https", "r.example:5001": "https", "[::2]:5000": "https", "127.0.0.10": "https",
	} {
		if got := i.scheme(registry); got != want {
			t.Errorf("scheme of %s = %s, want %s", registry, got, want)
		}
	}
}

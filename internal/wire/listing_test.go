package wire

import "testing"

func FuzzToken(f *testing.F) {
	f.Add("")
	f.Add("AAAAAAAAAAA=")
	begin, _ := NewListing(nil, nil, 25, "ListThings")
	f.Add(*begin.Token("lamp-7"))
	f.Add(*begin.Token("lamp-7") + "=")
	f.Fuzz(func(t *testing.T, token string) {
		l, ok := NewListing(&token, nil, 25, "ListThings")
		switch {
		case !ok:
		case (token == "") != (l.After == ""):
			t.Errorf("token %q: %+v", token, l)
		case token != "" && *l.Token(l.After) != token:
			// base64 lets the last bits and line breaks differ; the key must not
			if again, ok := NewListing(l.Token(l.After), nil, 25, "ListThings"); !ok || again != l {
				t.Errorf("token %q: %+v, then %+v", token, l, again)
			}
		}
	})
}

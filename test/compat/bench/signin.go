package main

import "context"

// measureSignIns signs a user in by SRP: two requests, and the pool's RSA signatures of two tokens.
func measureSignIns(ctx context.Context, o options, w *world) (*figures, error) {
	return measure(o, w, o.workers, func(int) error {
		_, err := w.anon.SignIn(ctx, w.poolID, w.appID, user, password)
		return err
	})
}

// measureClaims asks for claims faster than RSA keys can be made: the key generation is what it measures.
func measureClaims(ctx context.Context, o options, w *world) (*figures, error) {
	return measure(o, w, o.workers, func(int) error {
		_, err := w.claim(ctx)
		return err
	})
}

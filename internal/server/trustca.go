package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
)

// RootsAction is what is done to the roots of a running server.
type RootsAction string

const (
	ListRoots    RootsAction = "list"
	RotateRoots  RootsAction = "rotate"  // new roots beside the old ones: handed out, not yet in use
	FinishRoots  RootsAction = "finish"  // the new ones in use
	DropRoots    RootsAction = "drop"    // the old ones no longer handed out
	NewIssuers   RootsAction = "issuers" // new issuers under the same roots; Keys if these are offline
	ExportRoots  RootsAction = "export"  // answers the keys of the roots
	ForgetRoots  RootsAction = "forget"  // removes the keys of the roots; Keys proves that a copy exists
	RestoreRoots RootsAction = "restore" // puts Keys back
)

// A RootsRequest is one action. Keys are of roots, in PEM.
type RootsRequest struct {
	Action RootsAction
	Keys   string
}

// A RootsReport is what an action did, and the CAs after it.
type RootsReport struct {
	Begun   bool     // RotateRoots: false if a rotation was under way before
	Dropped int      // DropRoots
	Names   []string // ForgetRoots, RestoreRoots: the keys that went or came
	Keys    string   // ExportRoots
	CAs     []pki.CAInfo
	File    string // where the roots stand that clients are given
}

// ChangeRoots runs an action in the server that runs on a data folder.
func ChangeRoots(ctx context.Context, data string, q RootsRequest) (RootsReport, error) {
	r, err := askServer[RootsReport](ctx, data, "roots", q)
	if errors.Is(err, errNoServer) {
		err = fmt.Errorf("no server runs on %s: start it, or name its folder with --data", data)
	}
	return r, err
}

// serveRoots is the operation of the running server. Connections stay open whatever happens to the roots.
func (s *Server) serveRoots(ctx context.Context, q RootsRequest) (r RootsReport, err error) {
	if err := s.changeRoots(ctx, q, &r); err != nil {
		s.log.Error("changing the roots", "action", q.Action, "error", err)
		return r, err
	}
	r.File = filepath.Join(s.cfg.Data, RootsFile)
	if err := s.writeRoots(); err != nil {
		return r, fmt.Errorf("the roots are changed, but not in %s, which is written again at the next start: %w", r.File, err)
	}
	r.CAs = s.authority.CAs(ctx)
	if q.Action != ListRoots {
		s.log.Info("roots", "action", q.Action, "keys", r.Names)
	}
	return r, nil
}

func (s *Server) changeRoots(ctx context.Context, q RootsRequest, r *RootsReport) (err error) {
	a := s.authority
	switch q.Action {
	case ListRoots:
	case RotateRoots:
		r.Begun, err = a.Rotate(ctx)
	case FinishRoots:
		err = a.FinishRotation(ctx)
	case DropRoots:
		r.Dropped, err = a.DropOldRoots()
	case ExportRoots:
		var keys fleet.Secret
		keys, err = a.ExportRoots(ctx)
		r.Keys = keys.Reveal()
	case NewIssuers:
		if q.Keys == "" {
			return a.RotateIssuers(ctx, nil)
		}
		keys, err := pki.ReadRoots(fleet.Secret(q.Keys))
		if err != nil {
			return err
		}
		return a.RotateIssuers(ctx, keys)
	case ForgetRoots, RestoreRoots:
		keys, err := pki.ReadRoots(fleet.Secret(q.Keys))
		if err != nil {
			return err
		}
		if q.Action == ForgetRoots {
			r.Names, err = a.ForgetRoots(ctx, keys)
		} else {
			r.Names, err = a.RestoreRoots(ctx, keys)
		}
		return err
	default:
		err = fmt.Errorf("unknown action %q: the command is of another version than the server", q.Action)
	}
	return err
}

// TakeRootsOffline writes the keys of the roots to a new file and then removes them from the data folder. Cut short or run
// again, it goes on with a file that it wrote before.
func TakeRootsOffline(ctx context.Context, data, file string) (RootsReport, error) {
	r, err := ChangeRoots(ctx, data, RootsRequest{Action: ExportRoots})
	if err != nil {
		return r, err
	}
	if err := keepRoots(file, fleet.Secret(r.Keys)); err != nil {
		return r, err
	}
	// What proves the copy is read back from the file.
	keys, err := ReadRootsFile(file)
	if err != nil {
		return r, err
	}
	return ChangeRoots(ctx, data, RootsRequest{Action: ForgetRoots, Keys: keys.Reveal()})
}

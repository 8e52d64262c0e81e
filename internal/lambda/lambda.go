// Package lambda holds the rules of the functions that this server runs itself: what may be created, where their code and settings
// are kept, who may invoke them. It is the control plane of AWS Lambda as far as functions in pre-provisioning hooks need it; package
// function runs what it is told to.
//
// Begin with Service.Create (functions.go) and Service.Invoke (invoke.go). zip.go reads zip files and trusts nothing in them, code.go keeps
// them and the folders that they are extracted to, permissions.go has the policy of a function.
package lambda

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what a Service needs.
type Config struct {
	Store  *store.DB
	Sealer *pki.Sealer
	Roles  Roles
	Runner Runner
	Dir    string // for the extracted code, of the service alone; it is emptied
	Clock  fleet.Clock
	// OnDelete, if set, is told of functions that are gone.
	OnDelete func(s fleet.Scope, name string)
}

// Roles says whether a caller may hand a role to a service (iam:PassRole).
type Roles interface {
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
}

// A Runner runs functions; *function.Runner is the one.
type Runner interface {
	Invoke(ctx context.Context, code function.Code, event []byte) (function.Result, error)
	// CheckRuntime fails with function.ErrRuntime.
	CheckRuntime(name string) error
	// Forget ends the processes that wait for events of a function.
	Forget(arn string)
}

// A Service keeps functions and has them run. It is safe for concurrent use.
type Service struct {
	Config
	folders *folders
	outputs outputs
}

// New returns a Service. It empties cfg.Dir.
func New(cfg Config) (*Service, error) {
	f, err := openFolders(cfg.Dir)
	return &Service{Config: cfg, folders: f}, err
}

// ARN names a function.
func ARN(s fleet.Scope, name string) string { return s.ARN("lambda", "function:"+name) }

// Latest is the version of every function: there are no others.
const Latest = "$LATEST"

const purposeEnvironment = "function environment"

func sealedFor(s fleet.Scope, name string) []byte { return []byte(s.String() + "/" + name) }

// seal seals variables; nil without any.
func (s *Service) seal(scope fleet.Scope, name string, variables map[string]string) []byte {
	if len(variables) == 0 {
		return nil
	}
	b, err := json.Marshal(variables)
	if err != nil {
		panic("lambda: variables are JSON: " + err.Error()) // texts only
	}
	return s.Sealer.Seal(purposeEnvironment, b, sealedFor(scope, name))
}

// Environment returns the variables of a function.
func (s *Service) Environment(scope fleet.Scope, f fleet.LocalFunction) (map[string]string, error) {
	if len(f.Environment) == 0 {
		return nil, nil
	}
	b, err := s.Sealer.Open(purposeEnvironment, f.Environment, sealedFor(scope, f.Name))
	if err != nil {
		return nil, fmt.Errorf("the environment of function %s: %w", f.Name, err)
	}
	var variables map[string]string
	return variables, json.Unmarshal(b, &variables)
}

// A Resealer seals again, under the current master key, what was sealed under an older one; nil: nothing to do.
type Resealer interface {
	Reseal(purpose string, sealed, aad []byte) ([]byte, error)
}

// Reseal brings the variables of all functions under the current master key and returns how many functions it changed.
func Reseal(ctx context.Context, db *store.DB, r Resealer) (int, error) {
	return db.ReplaceSealed(ctx, store.SealedEnvironments, func(v store.SealedValue) ([]byte, error) {
		return r.Reseal(purposeEnvironment, v.Value, sealedFor(v.Scope, v.Keys[0]))
	})
}

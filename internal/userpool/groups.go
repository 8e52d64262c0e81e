package userpool

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Group of a pool; its role is what its members get in an identity pool.
type Group = store.PoolGroup

// GroupChange is what an update of a group says; nil leaves a member as it is.
type GroupChange struct {
	Description, RoleARN *string
	Precedence           *int
}

// passRole checks that the caller may give a role to people who sign in.
func (s *Service) passRole(ctx context.Context, scope fleet.Scope, role string) error {
	if role == "" {
		return nil
	}
	a, ok := fleet.ParseARN(role)
	if !ok || a.Service != "iam" || a.Account != scope.Account || !strings.HasPrefix(a.Resource, "role/") {
		return invalid("RoleArn " + role + " is not a role of account " + scope.Account + ".")
	}
	return s.cfg.Roles.PassRole(ctx, fleet.CallerFrom(ctx), role, "cognito-idp.amazonaws.com")
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, scope fleet.Scope, poolID string, g Group) (Group, error) {
	if err := s.passRole(ctx, scope, g.RoleARN); err != nil {
		return g, err
	}
	g.Created = s.now()
	g.Modified = g.Created
	err := s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, poolID); err != nil {
			return err
		}
		n, err := tx.CountPoolGroups(scope, poolID)
		if err != nil {
			return err
		}
		if n >= maxGroups {
			return overLimit("A user pool holds at most 10000 groups.")
		}
		if err := tx.CreatePoolGroup(scope, poolID, g); isExists(err) {
			return fail(fleet.KindExists, "GroupExistsException", "A group with the name already exists")
		} else if err != nil {
			return err
		}
		return nil
	})
	return g, err
}

func readGroup(tx *store.Tx, scope fleet.Scope, poolID, name string) (Group, error) {
	if _, err := readPool(tx, scope, poolID); err != nil {
		return Group{}, err
	}
	g, err := tx.PoolGroup(scope, poolID, name)
	return g, asNotFound(err, groupNotFound())
}

// Group returns a group.
func (s *Service) Group(ctx context.Context, scope fleet.Scope, poolID, name string) (g Group, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		g, err = readGroup(tx, scope, poolID, name)
		return err
	})
	return g, err
}

// Groups lists the groups of a pool.
func (s *Service) Groups(ctx context.Context, scope fleet.Scope, poolID, token string, limit int) (groups []Group, next string, err error) {
	after, err := pageKey("groups", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, poolID); err != nil {
			return err
		}
		var key string
		groups, key, err = tx.PoolGroups(scope, poolID, fleet.Page{After: after, Limit: limit})
		next = pageToken("groups", key)
		return err
	})
	return groups, next, err
}

// UpdateGroup changes a group. Another role ends the credentials and unused claims of its members.
func (s *Service) UpdateGroup(ctx context.Context, scope fleet.Scope, poolID, name string, c GroupChange) (g Group, err error) {
	if c.RoleARN != nil {
		if err := s.passRole(ctx, scope, *c.RoleARN); err != nil {
			return g, err
		}
	}
	err = s.tx(ctx, func(tx *store.Tx) error {
		if g, err = readGroup(tx, scope, poolID, name); err != nil {
			return err
		}
		before := g.RoleARN
		if c.Description != nil {
			g.Description = *c.Description
		}
		if c.RoleARN != nil {
			g.RoleARN = *c.RoleARN
		}
		if c.Precedence != nil {
			g.Precedence = c.Precedence
		}
		g.Modified = s.now()
		if err := tx.UpdatePoolGroup(scope, poolID, g); err != nil {
			return err
		}
		if g.RoleARN == before {
			return nil
		}
		return s.cutOffMembers(tx, scope, poolID, name)
	})
	return g, err
}

// cutOffMembers is one transaction with the change that calls for it: a member must not keep what the group has lost, not even if
// the power fails in between.
func (s *Service) cutOffMembers(tx *store.Tx, scope fleet.Scope, poolID, group string) error {
	_, err := s.cutOffSome(tx, scope, poolID, group, math.MaxInt)
	return err
}

func (s *Service) cutOffSome(tx *store.Tx, scope fleet.Scope, poolID, group string, limit int) (subs []string, err error) {
	if subs, err = tx.PoolGroupSubs(scope, poolID, group, limit); err != nil {
		return nil, err
	}
	for _, sub := range subs {
		if err := tx.CutOff(scope, cutSubject(poolID, sub), s.now()); err != nil {
			return nil, err
		}
	}
	return subs, nil
}

// groupChunk is how many members one transaction of DeleteGroup takes out, so that nobody waits long behind it.
const groupChunk = 100

// DeleteGroup removes a group; its members stay users. It works in small transactions; one that is cut short leaves the group with fewer
// members and can be repeated.
func (s *Service) DeleteGroup(ctx context.Context, scope fleet.Scope, poolID, name string) error {
	for done := false; !done; {
		if err := s.tx(ctx, func(tx *store.Tx) error {
			if _, err := readGroup(tx, scope, poolID, name); err != nil {
				return err
			}
			subs, err := s.cutOffSome(tx, scope, poolID, name, groupChunk)
			if err != nil {
				return err
			}
			for _, sub := range subs {
				if _, err := tx.RemovePoolGroupMember(scope, poolID, sub, name); err != nil {
					return err
				}
			}
			if done = len(subs) < groupChunk; !done {
				return nil
			}
			return tx.DeletePoolGroup(scope, poolID, name)
		}); err != nil {
			return err
		}
	}
	return nil
}

// AddToGroup puts a user into a group; a second time changes nothing.
func (s *Service) AddToGroup(ctx context.Context, scope fleet.Scope, poolID, username, group string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		_, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		if _, err := readGroup(tx, scope, poolID, group); err != nil {
			return err
		}
		in, _, err := tx.GroupsOfPoolUser(scope, poolID, u.Sub, fleet.Page{})
		if err != nil {
			return err
		}
		if len(in) >= maxGroupsPerUser && !slices.ContainsFunc(in, func(g Group) bool { return g.Name == group }) {
			return overLimit("A user is in at most 100 groups.")
		}
		return tx.AddPoolGroupMember(scope, poolID, u.Sub, group)
	})
}

// RemoveFromGroup takes a user out of a group; credentials and unused claims of the user end with it.
func (s *Service) RemoveFromGroup(ctx context.Context, scope fleet.Scope, poolID, username, group string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		_, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		if _, err := readGroup(tx, scope, poolID, group); err != nil {
			return err
		}
		removed, err := tx.RemovePoolGroupMember(scope, poolID, u.Sub, group)
		if err != nil || !removed {
			return err
		}
		return tx.CutOff(scope, cutSubject(poolID, u.Sub), s.now())
	})
}

// GroupsOf lists the groups of a user.
func (s *Service) GroupsOf(ctx context.Context, scope fleet.Scope, poolID, username, token string, limit int) (groups []Group, next string, err error) {
	after, err := pageKey("groups-of", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		_, u, err := readUser(tx, scope, poolID, username)
		if err != nil {
			return err
		}
		var key string
		groups, key, err = tx.GroupsOfPoolUser(scope, poolID, u.Sub, fleet.Page{After: after, Limit: limit})
		next = pageToken("groups-of", key)
		return err
	})
	return groups, next, err
}

// Members lists the users of a group.
func (s *Service) Members(ctx context.Context, scope fleet.Scope, poolID, group, token string, limit int) (users []User, next string, err error) {
	after, err := pageKey("members", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		if _, err := readGroup(tx, scope, poolID, group); err != nil {
			return err
		}
		rows, key, err := tx.PoolGroupMembers(scope, poolID, group, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("members", key)
		users, err = convert(rows, userOf)
		return err
	})
	return users, next, err
}

// groupClaims returns what groups put into tokens (identity spec 1.4): their names, the highest precedence first; their distinct
// roles; and the role that is preferred, "" if there is no telling. Groups without a role do not count for the latter.
func groupClaims(groups []Group) (names, roles []string, preferred string) {
	const last = 1 << 40
	rank := func(g Group) int {
		if g.Precedence == nil {
			return last
		}
		return *g.Precedence
	}
	groups = slices.Clone(groups)
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	best, tied := -1, false
	for _, g := range groups {
		names = append(names, g.Name)
		if g.RoleARN == "" {
			continue
		}
		if !slices.Contains(roles, g.RoleARN) {
			roles = append(roles, g.RoleARN)
		}
		switch {
		case best < 0:
			best, preferred = rank(g), g.RoleARN
		case rank(g) == best && g.RoleARN != preferred:
			tied = true
		}
	}
	if tied {
		preferred = ""
	}
	return names, roles, preferred
}

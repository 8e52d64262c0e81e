package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A SealedColumn is a column whose values are sealed under the master key. keys are the columns that, after account and region,
// name a row and to which its value is bound.
type SealedColumn struct {
	table, column string
	keys          []string
}

// String is for messages: "iam_keys.secret".
func (c SealedColumn) String() string { return c.table + "." + c.column }

// The sealed columns there are. A test holds the list against the schema.
var (
	SealedAccessKeys   = SealedColumn{"iam_keys", "secret", []string{"id"}}
	SealedPoolSecrets  = SealedColumn{"user_pools", "secret", []string{"id"}}
	SealedPoolKeys     = SealedColumn{"user_pool_keys", "private", []string{"pool", "kid"}}
	SealedPoolClients  = SealedColumn{"user_pool_clients", "secret", []string{"pool", "id"}}
	SealedVerifiers    = SealedColumn{"pool_users", "verifier", []string{"pool", "sub"}}
	SealedHistories    = SealedColumn{"pool_users", "history", []string{"pool", "sub"}}
	SealedPoolCodes    = SealedColumn{"pool_user_codes", "code", []string{"pool", "sub", "purpose"}}
	SealedTokens       = SealedColumn{"pool_software_tokens", "secret", []string{"pool", "sub", "state"}}
	SealedPoolMessages = SealedColumn{"pool_messages", "content", []string{"pool", "id"}}
	SealedProviders    = SealedColumn{"pool_providers", "secret", []string{"pool", "name"}}
	SealedFunctions    = SealedColumn{"functions", "secret", []string{"name"}}
	SealedEnvironments = SealedColumn{"lambda_functions", "environment", []string{"name"}}
	sealedColumnsKnown = []SealedColumn{SealedAccessKeys, SealedPoolSecrets, SealedPoolKeys, SealedPoolClients, SealedVerifiers, SealedHistories, SealedPoolCodes, SealedTokens, SealedProviders,
		SealedPoolMessages, SealedFunctions, SealedEnvironments}
)

// A SealedValue is one value of a SealedColumn; Keys are the values of its keys, in their order.
type SealedValue struct {
	Scope fleet.Scope
	Keys  []string
	Value []byte
}

// sealedChunk is how many values one transaction replaces, so that a registration never waits long behind it.
const sealedChunk = 200

// ReplaceSealed asks replace for a new value of each one in the column and stores it, nil meaning that the old one stays. It
// returns how many it replaced. It works in chunks beside other writers: a value that changed meanwhile is left alone. An error
// of replace ends it; what was done until then stays.
func (db *DB) ReplaceSealed(ctx context.Context, c SealedColumn, replace func(SealedValue) ([]byte, error)) (n int, err error) {
	var last *SealedValue
	for {
		var chunk []SealedValue
		if err := db.View(ctx, func(tx *Tx) (err error) {
			chunk, err = tx.sealedValues(c, last)
			return err
		}); err != nil || len(chunk) == 0 {
			return n, err
		}
		last = &chunk[len(chunk)-1]
		type change struct {
			SealedValue
			to []byte
		}
		var changes []change
		for _, v := range chunk {
			to, err := replace(v)
			if err != nil {
				return n, fmt.Errorf("%s of %s: %w", c, strings.Join(v.Keys, "/"), err)
			}
			if to != nil {
				changes = append(changes, change{v, to})
			}
		}
		if len(changes) == 0 {
			continue
		}
		var done int
		if err := db.Tx(ctx, func(tx *Tx) error {
			done = 0
			for _, ch := range changes {
				replaced, err := tx.replaceSealed(c, ch.SealedValue, ch.to)
				if err != nil {
					return err
				}
				if replaced {
					done++
				}
			}
			return nil
		}); err != nil {
			return n, err
		}
		n += done
	}
}

// sealedValues lists the next chunk of a column after last, nil for the first.
func (tx *Tx) sealedValues(c SealedColumn, last *SealedValue) ([]SealedValue, error) {
	place := "account, region, " + strings.Join(c.keys, ", ")
	query, args := "SELECT "+place+", "+c.column+" FROM "+c.table, []any(nil)
	if last != nil {
		query += " WHERE (" + place + ") > (?, ?" + strings.Repeat(", ?", len(c.keys)) + ")"
		args = last.place()
	}
	return all(tx, func(s scanner) (v SealedValue, err error) {
		v.Keys = make([]string, len(c.keys))
		to := []any{&v.Scope.Account, &v.Scope.Region}
		for i := range v.Keys {
			to = append(to, &v.Keys[i])
		}
		return v, s.Scan(append(to, &v.Value)...)
	}, query+" ORDER BY "+place+" LIMIT ?", append(args, sealedChunk)...)
}

func (v SealedValue) place() []any {
	args := []any{v.Scope.Account, v.Scope.Region}
	for _, k := range v.Keys {
		args = append(args, k)
	}
	return args
}

// replaceSealed replaces a value that is still as it was read.
func (tx *Tx) replaceSealed(c SealedColumn, v SealedValue, to []byte) (bool, error) {
	query := "UPDATE " + c.table + " SET " + c.column + " = ? WHERE account = ? AND region = ?"
	for _, k := range c.keys {
		query += " AND " + k + " = ?"
	}
	args := append(append([]any{to}, v.place()...), bytes.Clone(v.Value))
	return changedRows(tx.exec(query+" AND "+c.column+" = ?", args...))
}

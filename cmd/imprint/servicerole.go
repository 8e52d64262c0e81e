package main

import (
	"context"

	"github.com/imprint-iot/imprint/internal/client"
)

// Versions of the query protocols.
const (
	iamVersion = "2010-05-08"
	stsVersion = "2011-06-15"
)

// callerAccount is the account whose key signs.
func callerAccount(ctx context.Context, cl *client.Client) (string, error) {
	var who struct {
		Account string `xml:"GetCallerIdentityResult>Account"`
	}
	err := cl.Query(ctx, "sts", stsVersion, "GetCallerIdentity", nil, &who)
	return who.Account, err
}

// serviceRole returns the ARN of the role for what a service does if it is given none, and makes it if it is missing. It allows nothing.
func serviceRole(ctx context.Context, cl *client.Client, name, service string) (string, error) {
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"sts:AssumeRole"}]}`
	account, err := callerAccount(ctx, cl)
	if err != nil {
		return "", err
	}
	err = cl.Query(ctx, "iam", iamVersion, "CreateRole", map[string]string{"RoleName": name, "AssumeRolePolicyDocument": trust}, nil)
	if client.Code(err) == "EntityAlreadyExists" {
		err = nil
	}
	return "arn:aws:iam::" + account + ":role/" + name, err
}

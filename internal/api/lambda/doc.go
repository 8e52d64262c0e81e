// Package lambda holds the wire structs of AWS Lambda, for hooks that speak its Invoke API. No operation is served yet: begin
// with Model, and see package wire for how a service is made of one.
package lambda

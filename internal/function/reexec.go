package function

// Verb is the hidden verb by which the server starts itself as the process that builds the sandbox of a function and then becomes it.
const Verb = "function-worker"

// Main must be called first thing by every program that has a Runner, tests included (TestMain): if the process was started as the one
// that builds a sandbox, it does that and does not return.
func Main() {}

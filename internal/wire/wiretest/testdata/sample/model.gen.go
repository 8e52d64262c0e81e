package sample

type CreateInput struct {
	Name     string            `wire:"name,uri,required"`
	Size     *int              `wire:"size"`
	Options  *Options          `wire:"options"`
	Tags     []Tag             `wire:"tags"`
	Extra    *Extra            `wire:"extra"`
	Stored   *Stored           `wire:"stored"`
	Refused  *string           `wire:"refused"`
	Written  *string           `wire:"written"`
	Attrs    map[string]string `wire:"attrs"`
	Children []Child           `wire:"children"`
}

type CreateOutput struct {
	Name string `wire:"name"`
}

type Options struct {
	Fast *bool `wire:"fast"`
	Slow *bool `wire:"slow"`
}

type Tag struct {
	Key   string  `wire:"key,required"`
	Value *string `wire:"value"`
}

type Extra struct {
	A *string `wire:"a"`
}

type Stored struct {
	B *string `wire:"b"`
}

type Child struct {
	Name     string  `wire:"name"`
	Children []Child `wire:"children"`
}

func read(in *CreateInput) *int { return in.Size } // generated code does not count

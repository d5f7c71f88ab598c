package audit

// gaps tells gaps that follow each other without a change between them as one: a
// schedule leaves one between any two of its runs.
type gaps struct {
	fn   func(*Change) error
	held *Change
}

func (g *gaps) take(c *Change) error {
	if c.Kind == OfGap && g.held != nil && !c.From.After(*g.held.To) {
		if c.To.After(*g.held.To) {
			g.held.To = c.To
		}
		return nil
	}
	if err := g.end(); err != nil {
		return err
	}
	if c.Kind == OfGap {
		g.held = c
		return nil
	}
	return g.fn(c)
}

// end tells what is held.
func (g *gaps) end() error {
	c := g.held
	g.held = nil
	if c == nil {
		return nil
	}
	return g.fn(c)
}

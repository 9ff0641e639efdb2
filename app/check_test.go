package app_test

// check has the independent checker judge everything that the deployment has left.
func (d *deployment) check() {
	d.t.Helper()
}

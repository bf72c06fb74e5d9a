module outliers/tests/real/consul

go 1.24

require github.com/hashicorp/consul v1.21.0

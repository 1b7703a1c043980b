"""A street laid out in metres (`layout`) and painted into pixels (`painting`); `data.streets` is the data set."""

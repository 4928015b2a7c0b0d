"""A fleet in virtual time, for whatever decides what is loaded where.

`clock` is the time, `neurons` obey commands and serve requests as real ones do, with delays,
limits and failures; `cortex` believes what they say and acts on the real planner's plans;
`fifo` does the same with the simplest rule that works, to be compared with. From one seed a
run is the same every time.
"""

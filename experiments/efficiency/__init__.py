"""How many labels an agent needs to reach what `passive` reaches, by a protocol that is hard to win by accident.

`crossing` says when a curve has reached a level, `resampling` how sure that is, `verdicts` what may be claimed and
whether the protocol finds differences where there are none. `study` says what is compared, `reading` reads it, `runs`
makes ordinary runs of it, `stages` plays them in order, `outcome` and `pictures` show what came of it; `command` is all
of it together.
"""

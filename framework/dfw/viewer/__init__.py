"""The viewer: a scene in a browser, from any angle, while it is trained or afterwards.

`door` listens and decides who comes in, `server` puts viser behind it, `guests` knows who looks from where, `pace` says how much
a look may cost, `eye` turns a look into a picture, `panel` is what stands next to it. `live` watches a run, `opened` shows runs
that are there already.
"""

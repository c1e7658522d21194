"""One run on several devices: a process for each, which share the views of every step and the rows that a guidance is asked.

Every process has the whole scene and takes every step, with the same random numbers. What is dear is shared: each process renders
some of the views (`sharing`), and evaluates the guidance for some of the rows. Pictures and predictions are then gathered, so the
losses see all of them, and all processes compute the same. The first process alone leads: it writes the run, shows it, and
decides when it stops. The others follow (`party`).
"""

"""What the command accelerator.py beside this folder runs, a module for each family of sections.

plan        the sections in their order: which process, which share of the time
supervise   start the processes, and go on after one that crashed or hangs
record      the file of results, whole after every row
work        run sections in this process
job         what a section is given: sizes, device, time left
programs    compile one config's training
turns       programs in processes of their own, which compile together and compute in turn
hardware, smoke, speed, costs, states, precision, peers, beside     the sections themselves
page        docs/accelerators.md from the files of results
columns     its tables
"""

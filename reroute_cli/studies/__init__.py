"""What is done with a loaded model and many questions: profile, evaluate, sweep, tune, trace; plan and compare.

A study is one function: values in, a record out. It prints nothing; `progress` is told how far it is.
"""

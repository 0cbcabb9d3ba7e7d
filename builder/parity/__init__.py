"""How far answers are from the Hugging Face model's: figures by the task's metric, held against tolerances.

Below the stages, because several of them compare: ``optimise`` after each pass, ``engine`` where its GPU is, ``verify``
the served archive.
"""

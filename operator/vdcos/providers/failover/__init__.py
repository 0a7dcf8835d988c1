"""What failures of hosts would do, and what is kept free for them: the outlook, and admission control.

Pure, over what the store holds; the arithmetic is that of ``vdcos.providers.placement``.
"""

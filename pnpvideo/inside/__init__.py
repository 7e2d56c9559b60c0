"""What happens inside a network, as pictures. It looks, and changes nothing that is made."""

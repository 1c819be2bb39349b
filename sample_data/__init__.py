"""Small invented files to try propsync on, and the program that writes them."""
